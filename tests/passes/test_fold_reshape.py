"""A target that is computed from the batch size becomes constant."""

from __future__ import annotations

import numpy as np
from graphnets import network, run_passes

from xxdeploy.passes.fold_reshape import fold_reshape
from xxdeploy.passes.remove_dead import remove_dead


def test_a_target_computed_from_the_batch_size_becomes_constant() -> None:
    body = """s = Shape(x) b = Slice(s, zero, one, zero) t = Concat<axis=0>(b, rest) y = Reshape(x, t)"""
    signature = "(float[n,3,6,6] x) => (float[n,108] y)"
    arrays = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([108])}
    assert run_passes(network(signature, body, **arrays), fold_reshape, remove_dead)[0] == ["Reshape"]
