"""Concats and MaxPools of one scale move integers in the file that ships, and every integer stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quantnets import batches, ops, parse, run

from xxdeploy.lowering.copy_integers import copy_integers, pair_copies
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme

SUMS = "both = Concat<axis = 1>(a, b)  y = Conv(both, u)"


def model(body: str = SUMS, name: str = "static-w8c-a8") -> OnnxModel:
    """As where NASNet's separable convolutions are summed: nothing else reads what goes into the Concat."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 1, 1), "v": (8, 3, 1, 1), "u": (5, 16, 1, 1), "t": (5, 8, 1, 1)}
    arrays: dict[str, Any] = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 3, 9, 9] x) => (float[n, 5, 9, 9] y) {{ a = Conv(x, w)  b = Conv(x, v)  {body} }}"""
    network = parse(text, arrays)
    return quantize(network, calibrate(network, batches(data()), data_digest="d"), scheme(name))


def data() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (8, 3, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("optimize", [False, True])
def test_the_answers_are_the_same_bit_for_bit(optimize: bool) -> None:
    before = model()
    after = copy_integers(before)
    counts = ops(before), ops(after)
    assert [count["QuantizeLinear"] for count in counts] == [5, 4]  # x, a, b, y, and no more the Concat's
    assert counts[0]["DequantizeLinear"] - counts[1]["DequantizeLinear"] == 2
    np.testing.assert_array_equal(run(after, data(), optimize=optimize), run(before, data(), optimize=optimize))
    assert copy_integers(after) is after


def test_it_can_be_undone() -> None:
    before = model()
    back = pair_copies(copy_integers(before))
    assert ops(back) == ops(before)
    assert {name for node in back.proto().graph.node for name in node.output} == {
        name for node in before.proto().graph.node for name in node.output
    }
    np.testing.assert_array_equal(run(back, data()), run(before, data()))
    assert pair_copies(before) is before


def test_one_operand_twice() -> None:
    before = model("both = Concat<axis = 1>(a, a)  c = Conv(b, t)  d = Conv(both, u)  y = Add(c, d)")
    after = copy_integers(before)
    assert ops(after)["QuantizeLinear"] == ops(before)["QuantizeLinear"] - 1
    np.testing.assert_array_equal(run(after, data()), run(before, data()))
    np.testing.assert_array_equal(run(pair_copies(after), data()), run(before, data()))


def test_an_output_of_the_graph_keeps_its_pair() -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {"w": (8, 3, 1, 1), "v": (8, 3, 1, 1), "u": (5, 16, 1, 1)}.items()
    }
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 3, 9, 9] x) => (float[n, 5, 9, 9] y, float[n, 8, 9, 9] a)
    {{ a = Conv(x, w)  b = Conv(x, v)  {SUMS} }}"""
    network = parse(text, arrays)
    calibrated = calibrate(network, batches(data()), data_digest="d")
    same = {**calibrated.ranges, "a": (-9.0, 9.0), "b": (-9.0, 9.0), "both": (-9.0, 9.0)}
    before = quantize(network, replace(calibrated, ranges=same), scheme("static-w8c-a8"))
    after = copy_integers(before)
    assert ops(after)["QuantizeLinear"] == ops(before)["QuantizeLinear"] - 1
    np.testing.assert_array_equal(run(after, data()), run(before, data()))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (SUMS, "static-w8c-a8i"),  # int8: on x86 a pair must not be apart
        ("both = Concat<axis = 1>(a, b)  c = Conv(a, t)  d = Conv(both, u)  y = Add(c, d)", "static-w8c-a8"),  # scales
    ],
)
def test_what_stays(body: str, name: str) -> None:
    before = model(body, name)
    assert copy_integers(before) is before


@pytest.mark.parametrize("optimize", [False, True])
def test_a_pool_picks_integers(optimize: bool) -> None:
    before = model("m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)  y = Conv(m, t)")
    after = copy_integers(before)
    assert ops(after)["QuantizeLinear"] == ops(before)["QuantizeLinear"] - 1
    np.testing.assert_array_equal(run(after, data(), optimize=optimize), run(before, data(), optimize=optimize))
    back = pair_copies(after)
    assert ops(back) == ops(before)
    np.testing.assert_array_equal(run(back, data(), optimize=optimize), run(before, data(), optimize=optimize))
