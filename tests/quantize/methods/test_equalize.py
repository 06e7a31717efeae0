from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, equalized, images, parse, residual, run

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize import Scheme, calibrate, quantize
from xxdeploy.quantize.methods.equalize import MARGIN, find_layer_pairs
from xxdeploy.results import Progress

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
MOBILE = """
mobile (float[n, 3, 12, 12] x) => (float[n, 5] y)
{
  a = Conv<pads = [1, 1, 1, 1]>(x, wa, ba)
  a6 = Clip(a, zero, six)
  b = Conv<group = 12, pads = [1, 1, 1, 1]>(a6, wb, bb)
  b6 = ACTIVATION
  c = Conv(b6, wc)
  d = Conv<group = 2>(c, wd, bd)
  dr = Relu(d)
  m = GlobalAveragePool(dr)
  f = Flatten(m)
  h = Gemm<transB = TRANS>(f, wh, bh)
  k = Relu(h)
  y = Gemm<transB = TRANS>(k, wy, by)
}
"""


def mobile(activation: str = "Clip(b, zero, six)", trans: int = 1, seed: int = 0, outlier: float = 1.0) -> OnnxModel:
    """Return a chain of every pair of layers there is; ``outlier`` is the factor of channel 3 of c."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float64] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return values.astype(np.float32)

    spread = np.geomspace(0.05, 8, 12).astype(np.float32)
    first = weights(12, 3, 3, 3) * spread[:, None, None, None]
    hidden, head = weights(7, 6), weights(5, 7)
    arrays = {
        "wa": first, "ba": spread / 4, "wb": np.abs(weights(12, 1, 3, 3)), "bb": weights(12, 1)[:, 0] / 5,
        "wc": weights(8, 12, 1, 1), "wd": weights(6, 4, 1, 1), "bd": weights(6, 1)[:, 0] / 2,
        "wh": hidden if trans else np.ascontiguousarray(hidden.T), "bh": weights(7, 1)[:, 0],
        "wy": head if trans else np.ascontiguousarray(head.T), "by": weights(5, 1)[:, 0],
        "zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32),
    }  # fmt: skip
    arrays["wc"][3] *= outlier
    arrays["wd"][:3, 3] /= outlier
    text = HEAD + MOBILE.replace("ACTIVATION", activation).replace("TRANS", str(trans))
    return parse(text, arrays)


def pictures(count: int = 16, seed: int = 1) -> NDArray[np.float32]:
    return np.ascontiguousarray(images(count, seed, 12).transpose(0, 3, 1, 2))


def relative(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max() / np.abs(one).max())


def signal_to_noise(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return decibels."""
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - other).sum()))


def int8(model: OnnxModel, batch: NDArray[np.float32], method: str = "minmax") -> OnnxModel:
    return quantize(model, calibrate(model, batches(batch), method=method, data_digest="d"), Scheme())


@pytest.mark.parametrize("activation", ["Clip(b, zero, six)", "Relu(b)", "Clip(b, zero)", "Identity(b)"])
@pytest.mark.parametrize("trans", [0, 1])
def test_the_function_stays(activation: str, trans: int) -> None:
    model, batch = mobile(activation, trans), pictures()
    scaled = equalized(model, batches(batch))
    assert scaled != model
    assert relative(run(model, batch), run(scaled, batch)) < 1e-5


def test_the_pairs() -> None:
    pairs = [(pair.wide, pair.read, pair.ceiling) for pair in find_layer_pairs(Graph(mobile("Relu(b)")))]
    assert pairs == [("a", "a6", 6), ("b", "b6", np.inf), ("c", "c", np.inf), ("h", "k", np.inf)]
    # identity: not in the list of operators; residual: stem and sum are read twice
    assert [pair.wide for pair in find_layer_pairs(Graph(mobile("Identity(b)")))] == ["a", "c", "h"]
    assert [pair.wide for pair in find_layer_pairs(Graph(residual()))] == ["wide", "deep"]


@pytest.mark.parametrize(
    "clip", ["Clip(b, one, six)", "Clip(b, minus, six)", "LeakyRelu(b)", "Sigmoid(b)", "Mul(b, six)", "Max(b, one)"]
)
def test_what_is_not_homogeneous_stops_a_pair(clip: str) -> None:
    proto, arrays = mobile().split()
    node = next(node for node in proto.graph.node if node.output[0] == "b6")
    kind, _, rest = clip.partition("(")
    node.op_type = kind
    node.input[:] = rest.rstrip(")").split(", ")
    numbers = {"one": np.ones((), np.float32), "minus": -np.ones((), np.float32)}
    pairs = find_layer_pairs(Graph(OnnxModel.join(proto, {**arrays, **numbers})))
    assert "b" not in [pair.wide for pair in pairs]


def test_channels_at_the_ceiling_keep_their_scale_and_others_stay_below() -> None:
    model, batch = mobile(), pictures()
    scaled = equalized(model, batches(batch))
    before = Observer(Graph(model), ["a", "a6"]).run(batch)
    after = Observer(Graph(scaled), ["a", "a6"]).run(batch)
    top, new = before["a"].max(axis=(0, 2, 3)), after["a"].max(axis=(0, 2, 3))
    at = top >= 6
    assert 0 < at.sum() < 12
    np.testing.assert_array_equal(before["a"][:, at], after["a"][:, at])
    assert new[~at].max() <= 6 * max(MARGIN, float(top[~at].max()) / 6) + 1e-5
    quiet = (top > 0.2) & (top < 2)
    assert (new[quiet] > 1.5 * top[quiet]).all()


def test_an_outlier_channel_breaks_minmax_and_equalization_repairs_it() -> None:
    batch, unseen = pictures(), pictures(64, seed=7)
    broken = mobile("Relu(b)", outlier=300.0)
    reference = run(broken, unseen)
    plain = signal_to_noise(reference, run(int8(broken, batch), unseen))
    scaled = equalized(broken, batches(batch))
    repaired = signal_to_noise(reference, run(int8(scaled, batch), unseen))
    healthy = mobile("Relu(b)")
    normal = signal_to_noise(run(healthy, unseen), run(int8(healthy, batch), unseen))
    assert plain < normal - 10
    assert repaired > normal - 2


def test_a_quiet_channel_gains_steps() -> None:
    """Sixteen times quieter than the range, it has 16 steps of 255 before, and four times as many after."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((8, 3, 1, 1)).astype(np.float32)
    first[2] /= 16
    model = parse(
        HEAD + "g (float[n, 3, 12, 12] x) => (float[n, 8, 12, 12] y)"
        "{ a = Conv(x, v)  r = Clip(a, zero, six)  y = Conv<group = 8, pads = [1, 1, 1, 1]>(r, w) }",
        {"v": first, "w": rng.uniform(0.1, 1, (8, 1, 3, 3)).astype(np.float32),
         "zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32)},
    )  # fmt: skip
    batch, unseen = pictures(), pictures(64, seed=7)
    reference = run(model, unseen)[:, 2]
    # Not with the output's own grid, in which the channel stays as quiet as it is.
    error = []
    for candidate in (model, equalized(model, batches(batch))):
        quantized = int8(candidate, batch)
        outputs = Observer(Graph(quantized), ["y_float"]).run(unseen)["y_float"][:, 2]
        error.append(signal_to_noise(reference, outputs))
    assert error[1] > error[0] + 10


def test_only_weights_and_biases_change() -> None:
    (before, old), (after, new) = mobile().split(), equalized(mobile(), batches(pictures())).split()
    assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
    assert [list(node.output) for node in before.graph.node] == [list(node.output) for node in after.graph.node]
    assert (before.graph.input, before.graph.output) == (after.graph.input, after.graph.output)
    np.testing.assert_array_equal(new["by"], old["by"])
    assert {name.removesuffix("_weight").removesuffix("_bias") for name in new.keys() - old.keys()} <= set("abcdhy")


def test_shared_weights_are_scaled_for_one_layer_alone() -> None:
    weights = np.random.default_rng(0).standard_normal((4, 4, 1, 1)).astype(np.float32)
    weights[1] *= 20
    weights[:, 1] /= 20
    model = parse(
        HEAD + "g (float[n, 4, 6, 6] x) => (float[n, 4, 6, 6] y)"
        "{ a = Conv(x, w, b)  r = Relu(a)  c = Conv(r, w, b)  s = Relu(c)  y = Conv(s, w, b) }",
        {"w": weights, "b": np.array([0.1, 0.2, -0.3, 0], np.float32)},
    )
    batch = np.random.default_rng(1).standard_normal((8, 4, 6, 6)).astype(np.float32)
    scaled = equalized(model, batches(batch))
    assert {"a_weight", "c_weight", "y_weight"} <= scaled.split()[1].keys()
    assert relative(run(model, batch), run(scaled, batch)) < 1e-5


def test_twice_is_once_more_and_harmless() -> None:
    model, batch = mobile(), pictures()
    once = equalized(model, batches(batch))
    twice = equalized(once, batches(batch))
    assert relative(run(model, batch), run(twice, batch)) < 1e-5


@pytest.mark.parametrize("size", [1, 5, 16])
def test_batches_do_not_matter(size: int) -> None:
    assert equalized(mobile(), batches(pictures(), size)) == equalized(mobile(), batches(pictures()))


def test_dead_channels_constant_and_silent_tensors() -> None:
    proto, arrays = mobile("Relu(b)").split()
    arrays = dict(arrays)
    arrays["wa"] = arrays["wa"].copy()
    arrays["wa"][:4] = 0
    arrays["ba"] = np.concatenate([[0, -1, 0.5, 0], arrays["ba"][4:]]).astype(np.float32)  # dead, dead, constant, dead
    arrays["wc"] = arrays["wc"].copy()
    arrays["wc"][:, 5] = 0  # and one that nobody listens to
    model = OnnxModel.join(proto, arrays)
    scaled = equalized(model, batches(pictures()))
    assert relative(run(model, pictures()), run(scaled, pictures())) < 1e-5
    assert all(np.isfinite(value).all() for value in scaled.split()[1].values())
    arrays["wa"] = np.zeros_like(arrays["wa"])
    arrays["ba"] = np.zeros_like(arrays["ba"])
    silent = OnnxModel.join(proto, arrays)
    assert relative(run(silent, pictures()), run(equalized(silent, batches(pictures())), pictures())) < 1e-5


def test_one_image_and_black_images() -> None:
    model = mobile()
    for batch in (pictures(1), np.zeros((2, 3, 12, 12), np.float32)):
        scaled = equalized(model, batches(batch))
        assert relative(run(model, batch), run(scaled, batch)) < 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_images_are_refused(value: float) -> None:
    batch = pictures(3)
    batch[1, 0, 4, 4] = value
    with pytest.raises(ConversionError) as caught:
        equalized(mobile("Relu(b)"), batches(batch))
    assert caught.value.code in ("non-finite-range", "calibration-run")


def test_no_images_and_nothing_to_do() -> None:
    with pytest.raises(UsageError) as caught:
        equalized(mobile(), batches(pictures(0)))
    assert caught.value.code == "no-calibration-images"
    single = parse(HEAD + "g (float[n, 1, 4, 4] x) => (float[n, 1, 4, 4] y) { y = Conv(x, w) }",
                   {"w": np.ones((1, 1, 1, 1), np.float32)})  # fmt: skip
    assert equalized(single, batches(np.zeros((1, 1, 4, 4), np.float32))) is single


def test_progress() -> None:
    seen: list[Progress] = []
    equalized(mobile(), batches(pictures(5)), on_progress=seen.append)
    assert seen == [Progress("equalize", done) for done in range(1, 6)]


@pytest.mark.slow
def test_mobilenet_stays_the_same_network(shared_data: Path) -> None:
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.datasets import open_images
    from xxdeploy.models.catalog import find
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.runtime.image.preprocess import Preprocess

    model, _ = optimize(onnx_from_keras(build_model(find("mobilenet"))))
    seen = open_images(shared_data / "imagenet-train").sample(24, seed=1)
    batch = np.concatenate(list(seen.batches(Preprocess(224, 224), 8)))
    scaled = equalized(model, batches(batch))
    assert relative(run(model, batch), run(scaled, batch)) < 1e-4


def test_channels_that_are_always_zero_stay_zero() -> None:
    proto, arrays = mobile().split()
    zeros = {name: array.copy() for name, array in arrays.items()}
    for name in ("wa", "ba", "wb", "bb"):
        zeros[name][9:] = 0
    zeros["wc"][:, 9:] = 0
    model = OnnxModel.join(proto, zeros)
    equal = equalized(model, batches(pictures()))
    for array in equal.split()[1].values():
        assert np.isfinite(array).all()
    np.testing.assert_allclose(run(equal, pictures(1)), run(model, pictures(1)), rtol=1e-4, atol=1e-5)
