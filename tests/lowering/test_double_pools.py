"""A pool that is added to itself reads twice the scale, and every bit stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from quantnets import batches, ops, parse, run

from xxdeploy.lowering.double_pools import double_pools
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme

POOL = "p = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)"


def model(body: str, name: str = "static-w8c-a8") -> OnnxModel:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 1, 1), "u": (5, 8, 1, 1)}
    arrays: dict[str, Any] = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 3, 9, 9] x) => (float[n, 5, 9, 9] y) {{ a = Conv(x, w)  {POOL}  {body} }}"""
    network = parse(text, arrays)
    return quantize(network, calibrate(network, batches(data()), data_digest="d"), scheme(name))


def data() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (8, 3, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("name", ["static-w8c-a8", "static-w8c-a8s"])
@pytest.mark.parametrize("body", ["s = Add(p, p)  r = Relu(s)  y = Conv(r, u)", "s = Add(p, p)  y = Conv(s, u)"])
def test_the_answers_are_the_same_bit_for_bit(optimize: bool, name: str, body: str) -> None:
    before = model(body, name)
    after = double_pools(before)
    changed = name == "static-w8c-a8" or "Relu" not in body  # only zero points of zero clip as a Relu does
    assert (after is not before) == changed
    if changed:
        assert (ops(after)["Add"], ops(after)["Relu"]) == (0, 0)
    np.testing.assert_array_equal(run(after, data(), optimize=optimize), run(before, data(), optimize=optimize))
    assert double_pools(after) is after


def test_what_else_reads_the_tensor_keeps_its_scale() -> None:
    before = model("s = Add(p, p)  r = Relu(s)  c = Conv(r, u)  d = Conv(a, u)  y = Add(c, d)")
    after = double_pools(before)
    assert ops(after)["Add"] == ops(before)["Add"] - 1
    np.testing.assert_array_equal(run(after, data()), run(before, data()))


@pytest.mark.parametrize(
    "body",
    [
        "s = Add(p, a)  r = Relu(s)  y = Conv(r, u)",
        "s = Add(p, p)  r = Relu(s)  t = Mul(r, p)  y = Conv(t, u)",
        "s = Add(p, p)  m = Sigmoid(s)  y = Conv(m, u)",
        "s = Mul(p, p)  r = Relu(s)  y = Conv(r, u)",
    ],
)
def test_what_stays(body: str) -> None:
    before = model(body)
    assert double_pools(before) is before
