"""Local response normalization against the formula of its paper, saved and loaded, and as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.passes.lrn_as_sums import whole_lrn
from xxdeploy.passes.optimize import optimize

Images = NDArray[np.float32]


def layer(*args: Any, **options: Any) -> Any:
    load_keras()
    from xxdeploy.models.local_response import LocalResponseNormalization

    return LocalResponseNormalization(*args, **options)


def formula(a: Images, size: int, alpha: float, beta: float, k: float) -> NDArray[np.float64]:
    """Section 3.3 as it is written: the sums end at the first and last map."""
    wide = a.astype(np.float64)
    b = np.empty_like(wide)
    last = a.shape[-1] - 1
    for i in range(last + 1):
        around = slice(max(0, i - size // 2), min(last, i + size // 2) + 1)
        b[..., i] = wide[..., i] / (k + alpha * (wide[..., around] ** 2).sum(axis=-1)) ** beta
    return b


@pytest.fixture
def images() -> Images:
    return (np.random.default_rng(0).standard_normal((2, 5, 4, 11)) * 30).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"),
    [(5, 1e-4, 0.75, 2.0), (3, 1e-2, 0.5, 1.0), (1, 1e-3, 1.0, 1.0), (21, 1e-2, 0.75, 2.0)],
)
def test_it_is_the_formula_and_so_is_its_onnx(size: int, alpha: float, beta: float, k: float, images: Images) -> None:
    keras = load_keras()
    image = keras.Input((5, 4, 11))
    model = keras.Model(image, layer(size, alpha=alpha, beta=beta, k=k)(image))
    expected = formula(images, size, alpha, beta, k)
    assert np.abs(expected - images).max() > 0.5  # the layer does something
    np.testing.assert_allclose(model.predict_on_batch(images), expected, rtol=1e-5)

    graph, _ = optimize(onnx_from_keras(model, outputs=("features",)))
    session = onnxruntime.InferenceSession(graph.to_bytes(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"image": images})[0], expected, rtol=1e-5)


def test_between_convolutions_it_needs_no_transpose(images: Images) -> None:
    keras = load_keras()
    image = keras.Input((5, 4, 11))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layer(name="norm")(x)
    x = keras.layers.MaxPooling2D(2)(x)
    x = layer(name="norm_again")(x)
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(x))
    graph, _ = optimize(onnx_from_keras(model, outputs=("features",)))
    assert sum(node.op_type == "LRN" for node in whole_lrn(graph).proto().graph.node) == 2
    kinds = [node.op_type for node in graph.proto().graph.node]
    assert kinds.count("Transpose") == 2  # at the image, and at the NHWC features


def test_float16_has_room_for_the_squares(images: Images) -> None:
    large = images * 100  # whose squares are beyond float16
    expected = formula(large, 5, 1e-4, 0.75, 2.0)
    half = np.asarray(layer(dtype="mixed_float16")(large), np.float64)
    np.testing.assert_allclose(half, expected, rtol=2e-3, atol=1e-2)


def test_saved_and_loaded(images: Images, tmp_path: Path) -> None:
    keras = load_keras()
    image = keras.Input((5, 4, 11))
    model = keras.Model(image, layer(3, alpha=0.01, beta=0.5, k=1.5, name="norm")(image))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("norm").get_config() == model.get_layer("norm").get_config()
    np.testing.assert_array_equal(again.predict_on_batch(images), model.predict_on_batch(images))


@pytest.mark.parametrize("size", [0, 4, -1])
def test_the_size_is_odd(size: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        layer(size)
