"""Operators that move elements give the answers of ONNX Runtime, and keep integers as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from litertnets import error, in_int8, in_litert, network, pictures, steps, weights
from numpy.typing import NDArray
from quantnets import run

from xxdeploy.errors import ConversionError
from xxdeploy.lowering.litert.write import to_litert

SHAPE = "float[n, 3, 9, 8]"

MOVES: dict[str, tuple[str, str, dict[str, NDArray[Any]]]] = {
    "transpose": ("y = Transpose<perm = [0, 2, 1, 3]>(x)", "n, 9, 3, 8", {}),
    "flatten, channels first": ("y = Flatten(x)", "n, 216", {}),
    "flatten, channels last": ("t = Transpose<perm = [0, 2, 3, 1]>(x) y = Flatten(t)", "n, 216", {}),
    "shuffled channels": (
        "r = Reshape(x, s) t = Transpose<perm = [0, 2, 1, 3, 4]>(r) y = Reshape(t, u)",
        "n, 6, 9, 4",
        {"s": np.array([-1, 3, 2, 9, 4]), "u": np.array([-1, 6, 9, 4])},
    ),
    "squeeze": ("p = GlobalAveragePool(x) y = Squeeze(p, a)", "n, 3", {"a": np.array([2, 3])}),
    "unsqueeze": ("y = Unsqueeze(x, a)", "n, 1, 3, 9, 8", {"a": np.array([1])}),
    "concat": ("z = Relu(x) y = Concat<axis = 1>(x, z)", "n, 6, 9, 8", {}),
    "zeros around": ("y = Pad(x, p)", "n, 3, 12, 8", {"p": np.array([0, 0, 1, 0, 0, 0, 2, 0])}),
    "a number around": (
        "y = Pad(x, p, v)",
        "n, 3, 9, 10",
        {"p": np.array([0, 0, 0, 1, 0, 0, 0, 1]), "v": np.array(0.5, np.float32)},
    ),
    "mirrored": ('y = Pad<mode = "reflect">(x, p)', "n, 3, 11, 8", {"p": np.array([0, 0, 1, 0, 0, 0, 1, 0])}),
    "slice": (
        "y = Slice(x, s, e, a, t)",
        "n, 3, 4, 4",
        {"s": np.array([1, 0]), "e": np.array([-1, 8]), "a": np.array([2, 3]), "t": np.array([2, 2])},
    ),
    "slice backwards": (
        "y = Slice(x, s, e, a, t)",
        "n, 3, 9, 8",
        {"s": np.array([-1]), "e": np.array([-99]), "a": np.array([1]), "t": np.array([-1])},
    ),
    "gather": ("y = Gather<axis = 1>(x, i)", "n, 2, 9, 8", {"i": np.array([2, 0])}),
    "gather one": ("y = Gather<axis = 1>(x, i)", "n, 9, 8", {"i": np.array(-1)}),
    "split": ("a, b = Split<axis = 3>(x, s) y = Concat<axis = 3>(b, a)", "n, 3, 9, 8", {"s": np.array([3, 5])}),
    "space to depth": (
        "p = Pad(x, b) y = SpaceToDepth<blocksize = 2>(p)",
        "n, 12, 5, 4",
        {"b": np.array([0] * 6 + [1, 0])},
    ),
    "depth to space": ("c = Conv(x, w) y = DepthToSpace<blocksize = 2>(c)", "n, 1, 18, 16", {"w": weights(4, 3, 1, 1)}),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_equal(name: str) -> None:
    body, output, arrays = MOVES[name]
    assert error(network(body, f"float[{output}]", arrays)) < 1e-6


def test_a_tensor_that_is_reshaped_keeps_its_values_for_later_readers() -> None:
    """LiteRT's own kernels write the product into the memory of ``c``, unless the reshape works on a copy."""
    body = "q = Abs(x) e = Floor(q) a = Sub(q, e) c = Transpose<perm = [0, 2, 3, 1]>(a) f = Reshape(c, s) "
    body += "h = Mul(f, m) r = ReduceMax<axes = [1, 2, 3], keepdims = 0>(c) d = Unsqueeze(r, o) y = Sub(h, d)"
    factors = np.linspace(0.5, 3, 216, dtype=np.float32)[None]
    model = network(body, "float[n, 216]", {"s": np.array([-1, 216]), "m": factors, "o": np.array([1])})
    batch = pictures(model)
    for reference in (True, False):
        assert np.abs(in_litert(model, batch, reference=reference) - run(model, batch)).max() < 1e-6


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("y = Concat<axis = 1>(a, b)", "n, 8, 9, 8"),
        ("y = Transpose<perm = [0, 2, 3, 1]>(a)", "n, 9, 8, 4"),
        ("y = Flatten(a)", "n, 288"),
        ("y = Pad(a, p)", "n, 4, 10, 8"),
    ],
)
def test_integers_are_only_moved(body: str, output: str) -> None:
    arrays: dict[str, NDArray[Any]] = {"w": weights(4, 3, 1, 1), "v": weights(4, 3, 1, 1, seed=5)}
    if "(a, p)" in body:
        arrays["p"] = np.array([0, 0, 1, 0, 0, 0, 0, 0])
    whole = f"a = Conv(x, w) b = Conv(x, v) {body}" if "(a, b)" in body else f"a = Conv(x, w) {body}"
    if "(a, b)" not in body:
        del arrays["v"]
    assert steps(in_int8(network(whole, f"float[{output}]", arrays))) < 1.01


def test_repeated_borders_are_refused() -> None:
    model = network('y = Pad<mode = "edge">(x, p)', "float[n, 3, 11, 8]", {"p": np.array([0, 0, 1, 0, 0, 0, 1, 0])})
    with pytest.raises(ConversionError, match="in the mode edge"):
        to_litert(model)
