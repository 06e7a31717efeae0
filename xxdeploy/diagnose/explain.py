"""Explain a wrong result: try likely mistakes, and name one if correcting it makes the result right."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.images import EVALUATION_BATCH
from xxdeploy.runtime import Runtime
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.image.preprocess import MODES, Preprocess, Sizing
from xxdeploy.runtime.image.resample import ANTIALIASED, FRACTIONAL, RESAMPLES
from xxdeploy.runtime.image.sizing import CROP_FRACTION, RESIZES
from xxdeploy.runtime.inputs import InputForm
from xxdeploy.runtime.selftest import read_golden
from xxdeploy.verify import evaluate

if TYPE_CHECKING:
    from xxdeploy.datasets.images import ImageSet

_ENOUGH = 200
"""Most images to try a guess on."""


def explain_golden(root: Path, manifest: Manifest, variant: Variant, session: Session) -> str:
    """Return the mistake that explains wrong golden pairs of ``variant``, as the start of a sentence, or ""."""
    inputs, outputs = read_golden(root, manifest, variant)
    expected = outputs[manifest.output_names[0]]

    def right(batch: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
        return bool(np.abs(session.run(batch) - wanted).max() <= manifest.golden.tolerance)

    for told, guess in _preprocessings(manifest.form):
        if right(guess.normalize(inputs), expected):
            return f"preprocess: {told}; "
    batch = manifest.form.normalize(inputs)
    swapped = {}
    if isinstance(manifest.form, Preprocess):
        swapped["the channels are in the other order (RGB and BGR)"] = batch[..., ::-1]
        swapped["height and width are exchanged"] = batch.transpose(0, 2, 1, 3)
    for told, other in swapped.items():
        if other.shape == batch.shape and right(np.ascontiguousarray(other), expected):
            return f"preprocess: {told}; "
    outputs_here = session.run(batch)
    for other_variant in manifest.variants:
        if other_variant.name != variant.name and other_variant.golden != variant.golden:
            wanted = read_golden(root, manifest, other_variant)[1][manifest.output_names[0]]
            # The outputs of two variants may differ by less than the tolerance, so compare the distances.
            if np.abs(outputs_here - wanted).max() < 0.1 * np.abs(outputs_here - expected).max():
                return f"{variant.model} is the file of variant {other_variant.name}; "
    if manifest.task == "classification" and (order := _order(outputs_here, expected)) is not None:
        return f"the outputs are in another order: class {order[0]} is where class {order[1]} should be; "
    return ""


def explain_accuracy(runtime: Runtime, images: ImageSet, measured: float, expected: float) -> str:
    """Return the mistake whose correction recovers half of the lost top-1, as the start of a sentence, or ""."""
    few = images.sample(min(_ENOUGH, len(images)))
    manifest = runtime.manifest
    labels = few.labels
    assert labels is not None
    enough = measured + (expected - measured) / 2
    given = evaluate(runtime.session, few.batches(manifest.form, EVALUATION_BATCH), None).classes
    best = {
        index: Counter(truth for truth, answer in zip(labels, given, strict=True) if answer == index).most_common(1)
        for index in set(given)
    }
    order = {index: counted[0][0] for index, counted in best.items()}
    right = sum(order[answer] == truth for truth, answer in zip(labels, given, strict=True)) / len(given)
    moved = sorted(index for index, truth in order.items() if index != truth)
    if right >= enough and moved and len(set(order.values())) == len(order):
        names = ", ".join(f"{runtime.labels[i]!r} for {runtime.labels[order[i]]!r}" for i in moved[:3])
        return f"labels: {manifest.labels or 'the classes'} are in another order than the outputs ({names}); "
    for told, guess in _preprocessings(manifest.form):
        if (evaluate(runtime.session, few.batches(guess, EVALUATION_BATCH), labels).top1 or 0) >= enough:
            return f"preprocess: {told}; "
    if not isinstance(manifest.form, Preprocess):
        return ""
    flipped = (np.ascontiguousarray(batch[..., ::-1]) for batch in few.batches(manifest.form, EVALUATION_BATCH))
    if (evaluate(runtime.session, flipped, labels).top1 or 0) >= enough:
        return "preprocess: the channels are in the other order (RGB and BGR); "
    return ""


def explain_digest(manifest: Manifest, images: ImageSet, recorded: str) -> str:
    """Return how the export preprocessed these images, if it differs from the manifest; otherwise "".

    The recorded digest covers images and preprocessing, so a match is certain.
    """
    if recorded == data_digest(manifest.form, images):
        return ""
    return next((told for told, guess in _preprocessings(manifest.form) if data_digest(guess, images) == recorded), "")


def data_digest(preprocess: InputForm, images: ImageSet) -> str:
    """Return the digest of the evidence, of images and their preprocessing (``Inputs.data_digest``)."""
    how = json.dumps(preprocess.to_json(), sort_keys=True)
    return hashlib.sha256(f"{images.digest}\n{how}".encode()).hexdigest()


def _preprocessings(now: InputForm) -> Iterator[tuple[str, Preprocess]]:
    if not isinstance(now, Preprocess):
        return
    for mode in MODES:
        if mode != now.mode and not (now.channels == 1 and mode in ("caffe", "torch")):
            yield (f"mode is {now.mode!r}, and it was exported with {mode!r}", replace(now, mode=mode, scaling=None))
    for guess in _sizings(now.sizing):
        if guess != now.sizing:
            yield _told(now.sizing, guess), replace(now, sizing=guess)


def _sizings(now: Sizing) -> Iterator[Sizing]:
    """Yield other geometries with the same filter, then other filters with the same geometry."""
    for resize in RESIZES:
        if resize != "fit" or not now.has_fractions:
            yield Sizing(resize, now.resample)
    yield Sizing("crop", now.resample, 1.0)
    for resample in RESAMPLES:
        if now.resize != "fit" or resample not in FRACTIONAL:
            yield replace(now, resample=resample)


def _told(now: Sizing, guess: Sizing) -> str:
    here, there = (
        {"crop_fraction": CROP_FRACTION, "resample": ANTIALIASED, **sizing.to_json()} for sizing in (now, guess)
    )
    pairs = [(key, here[key], there[key]) for key in ("resize", "resample", "crop_fraction") if here[key] != there[key]]
    return " and ".join(f"{key} is {mine!r}, and it was exported with {theirs!r}" for key, mine, theirs in pairs)


def _order(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> tuple[int, int] | None:
    """Return the first (class in ``actual``, class in ``expected``) that differ, if the columns are permuted."""
    distance = np.abs(actual[:, :, None] - expected[:, None, :]).max(0)
    place = distance.argmin(1)
    moved = np.flatnonzero(place != np.arange(len(place)))
    if len(set(place.tolist())) != len(place) or not len(moved) or distance.min(1).max() > 0.05:
        return None
    return int(place[moved[0]]), int(moved[0])
