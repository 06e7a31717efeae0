from __future__ import annotations

import logging

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, parse, run

from xxdeploy.artifacts import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.bias_statistics import correct_biases_from_statistics
from xxdeploy.quantize.normal_moments import Moments

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
U8S7 = scheme("static-w7c-a8")


def network(group: int = 1) -> OnnxModel:
    """Return conv, ReLU6, conv, Relu, pool, dense; the second has no bias."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float64] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return values.astype(np.float32)

    return parse(
        HEAD + f"""g (float[n, 8, 10, 10] x) => (float[n, 5] y)
        {{
          "a/Conv" = Conv(x, wa, ba)
          a6 = Clip("a/Conv", zero, six)
          "b/Conv" = Conv<group = {group}>(a6, wb)
          br = Relu("b/Conv")
          m = GlobalAveragePool(br)
          f = Flatten(m)
          y = Gemm(f, wy, by)
        }}""",
        {"wa": weights(16, 8, 1, 1), "ba": weights(16, 1)[:, 0], "wb": weights(12, 16 // group, 1, 1),
         "wy": weights(12, 5), "by": weights(5, 1)[:, 0],
         "zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32)},
    )  # fmt: skip


def measured(model: OnnxModel, data: NDArray[np.float32]) -> dict[str, Moments]:
    """Return what batch normalisations would have known."""
    from xxdeploy.quantize.graph_view import GraphView
    from xxdeploy.quantize.observe import Observer

    found = Observer(GraphView.of(model), ["a/Conv", "b/Conv"]).run(data)
    return {
        name.partition("/")[0]: (
            value.mean(axis=(0, 2, 3), dtype=np.float64),
            value.std(axis=(0, 2, 3), dtype=np.float64),
        )
        for name, value in found.items()
    }


def pictures(seed: int, count: int = 64) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 8, 10, 10)).astype(np.float32)


@pytest.mark.parametrize("group", [1, 4])
def test_the_mean_shift_of_rounded_weights_goes(group: int) -> None:
    model, data, unseen = network(group), pictures(0), pictures(1)
    ranges = calibrate(model, batches(data), data_digest="d")
    fixed = correct_biases_from_statistics(model, ranges, U8S7, measured(model, data))
    shift = [
        np.abs((run(quantize(each, ranges, U8S7), unseen) - run(model, unseen)).mean(axis=0)).max()
        for each in (model, fixed)
    ]
    assert shift[1] < 0.4 * shift[0]


def test_only_biases_of_known_layers_change(caplog: pytest.LogCaptureFixture) -> None:
    model, data = network(), pictures(0)
    ranges = calibrate(model, batches(data), data_digest="d")
    statistics = measured(model, data)
    with caplog.at_level(logging.INFO):
        fixed = correct_biases_from_statistics(model, ranges, U8S7, {"a": statistics["a"]})
    assert "a/Conv kept" in caplog.text
    assert "y kept" in caplog.text
    old, new = model.split()[1], fixed.split()[1]
    assert set(new) - set(old) == {"b/Conv_bias"}
    for name in old:
        np.testing.assert_array_equal(old[name], new[name])


def test_nothing_known_nothing_changed() -> None:
    model = network()
    ranges = calibrate(model, batches(pictures(0, 4)), data_digest="d")
    fixed = correct_biases_from_statistics(model, ranges, U8S7, {})
    np.testing.assert_array_equal(run(model, pictures(1)), run(fixed, pictures(1)))
    wrong = {"a": (np.zeros(3), np.ones(3))}  # of another network
    fixed = correct_biases_from_statistics(model, ranges, U8S7, wrong)
    np.testing.assert_array_equal(run(model, pictures(1)), run(fixed, pictures(1)))


def test_dead_and_constant_channels() -> None:
    model, data = network(), pictures(0)
    ranges = calibrate(model, batches(data), data_digest="d")
    statistics = measured(model, data)
    statistics["a"][1][:4] = 0
    statistics["a"][0][:4] = (0, -1, 0.5, 9)
    fixed = correct_biases_from_statistics(model, ranges, U8S7, statistics)
    assert all(np.isfinite(value).all() for value in fixed.split()[1].values())
