"""The answers of a converted or quantized Keras model compared with those of Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.errors import ConversionError
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import Scheme, choose_ranges, observe_histograms, quantize
from xxdeploy.runtime.engines.ort import OrtSession

LARGEST = 1e6
FLOAT16_TOLERANCE = 0.05
"""By how much a model may differ in float16 and float32, relative to the largest output."""
NOISE_DB = 40.0
"""Noise in images that is about as large as the rounding of one tensor to eight bits."""


def _answers(model: Any, batch: NDArray[np.float32]) -> list[NDArray[Any]] | None:
    """Return the outputs of Keras; None where it fails, or where values are not finite or larger than ``LARGEST``."""
    try:
        outputs = model(batch, training=False)
    except Exception:  # noqa: BLE001 - oneDNN refuses some transposed convolutions
        return None
    arrays = [np.asarray(output, np.float32) for output in (outputs if isinstance(outputs, list) else [outputs])]
    usable = all(np.isfinite(array).all() and np.abs(array).max(initial=0) <= LARGEST for array in arrays)
    return arrays if usable else None


def _difference(answers: list[NDArray[Any]], expected: list[NDArray[Any]]) -> float:
    """Return the largest difference of any output, relative to the largest value of this output."""
    assert [answer.shape for answer in answers] == [right.shape for right in expected]
    return max(
        float(np.abs(answer - right).max(initial=0)) / max(float(np.abs(right).max(initial=0)), 1e-6)
        for answer, right in zip(answers, expected, strict=True)
    )


def conversion_error(model: Any, folder: Path, seed: int) -> float | None:
    """Save, load, convert and optimize a model; return the largest difference from Keras over the largest output.

    A model in float16 is compared with Keras' answers after loading, which is in float32. None where Keras itself
    cannot run the model, or gives values that are not finite or larger than ``LARGEST``.
    """
    batch = np.random.default_rng(seed).uniform(0, 255, (2, *model.input_shape[1:])).round().astype(np.float32)
    if not _rescales(model):
        batch = batch / np.float32(127.5) - 1
    expected = _answers(model, batch)
    if expected is None:
        return None
    path = folder / "model.keras"
    model.save(path)
    loaded = load_model_file(path).model
    if any(layer.dtype_policy.name == "mixed_float16" for layer in model.layers):
        before, expected = expected, _answers(loaded, batch)
        if expected is None:
            return None
        assert _difference(before, expected) < FLOAT16_TOLERANCE, "the loaded model differs from that in float16"
    prepared = prepare_model(loaded, task="features")
    onnx, _ = optimize(onnx_from_keras(prepared.model, outputs=[output.name for output in prepared.outputs]))
    return _difference(list(OrtSession(onnx.to_bytes()).run_all(batch).values()), expected)


def _rescales(model: Any) -> bool:
    return any(layer.name.startswith("rescaling") for layer in model.layers[:2])


def int8_decibels(model: Any, folder: Path, seed: int) -> tuple[float, float] | None:
    """Save, load, optimize and quantize a model; return the decibels of its INT8 answers, and of its float answers.

    Both are signal-to-noise ratios against the float answers, of several outputs the worst. The second is that of the
    float model on images with noise at ``NOISE_DB``: where it is low, the model itself magnifies or jumps.

    None where Keras cannot run the model, where the answers are not finite or the same for all images, or where nothing
    can become INT8.
    """
    rng, shape = np.random.default_rng(seed), model.input_shape[1:]
    coarse = rng.uniform(0, 255, (24, -(-shape[0] // 4), -(-shape[1] // 4), shape[2])).repeat(4, 1).repeat(4, 2)
    batch = (0.8 * coarse[:, : shape[0], : shape[1]] + rng.uniform(0, 51, (24, *shape))).round().astype(np.float32)
    if not _rescales(model):
        batch = batch / np.float32(127.5) - 1
    if _answers(model, batch) is None:
        return None
    path = folder / "model.keras"
    model.save(path)
    loaded = prepare_model(load_model_file(path).model, task="features").model
    noise = rng.standard_normal(batch.shape) * np.sqrt(np.square(batch).mean()) * 10 ** (-NOISE_DB / 20)
    integer = decibels_on(loaded, batch)
    return None if integer is None else (integer, _own_decibels(loaded, batch, noise.astype(np.float32)))


def _own_decibels(model: Any, batch: NDArray[np.float32], noise: NDArray[np.float32]) -> float:
    """Return the decibels of a float model whose images have ``noise``."""
    rights, noisy = _answers(model, batch), _answers(model, batch + noise)
    assert rights is not None
    if noisy is None:
        return 0.0
    return min(_decibels(answer, right.astype(np.float64)) for answer, right in zip(noisy, rights, strict=True))


def decibels_on(model: Any, batch: NDArray[np.float32]) -> float | None:
    """Quantize a model with the ranges of 24 images, and measure it on them; None as for :func:`int8_decibels`."""
    names = [f"output_{index}" for index in range(len(model.outputs))]
    onnx, _ = optimize(onnx_from_keras(model, outputs=names))
    rights = [answer.astype(np.float64) for answer in OrtSession(onnx.to_bytes()).run_all(batch).values()]
    if not all(map(_tells_images_apart, rights)):
        return None
    histograms = observe_histograms(
        onnx, lambda: (batch[start : start + 8] for start in (0, 8, 16)), data_digest="random", total=24
    )
    try:
        integer = quantize(onnx, choose_ranges(histograms, "minmax"), Scheme())
    except ConversionError as refusal:
        if refusal.code == "nothing-to-quantize":
            return None
        raise
    return min(map(_decibels, OrtSession(integer.to_bytes()).run_all(batch).values(), rights))


def _tells_images_apart(right: NDArray[np.float64]) -> bool:
    largest = np.abs(right).max()
    return bool(np.isfinite(right).all() and largest <= LARGEST and np.ptp(right, axis=0).max() > 1e-4 * largest)


def _decibels(answer: NDArray[Any], right: NDArray[np.float64]) -> float:
    signal = float(np.square(right).sum())
    return float(10 * np.log10(signal / max(float(np.square(answer - right).sum()), 1e-20 * signal)))
