"""Sessions of exported models: large weights lie in a file of their own."""

from __future__ import annotations

import numpy as np
from graphnets import parse

from xxdeploy.onnxmodel.session import open_session

TEXT = """
g (float[batch, 4] x) => (float[batch, 3] y) <float[4, 3] w = {1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>
{ y = MatMul(x, w) }
"""


def test_large_weights_give_the_same_answers() -> None:
    model = parse(TEXT)
    batch = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    small, large = (open_session(model, name="net", large=size, optimize=False) for size in (1 << 20, 0))
    assert small.name == large.name == "net"
    np.testing.assert_array_equal(small.run(batch), large.run(batch))
