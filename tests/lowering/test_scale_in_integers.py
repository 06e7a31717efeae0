"""A batch normalization of a sum or a Concat becomes a depthwise convolution of one pixel, and gives the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphnets import apply

from xxdeploy.lowering.scale_in_integers import scale_in_integers

GIVEN = "g (float[n, 16, 5, 4] x) => (float[n, 16, 5, 4] y)"
ARRAYS = "<float[16] s, float[16] b, float[16] m, float[16] v>"
VARIANCE = np.linspace(0.1, 3, 16)


def norm(source: str, options: str = "") -> str:
    made = "r = Relu(x)  a = Add(r, x)  c = Concat<axis = 1>(x)  p = MaxPool<kernel_shape = [1, 1]>(x)"
    return f"{GIVEN} {ARRAYS} {{ {made}  y = BatchNormalization{options}({source}, s, b, m, v) }}"


@pytest.mark.parametrize("options", ["", "<epsilon = 0.1>"])
@pytest.mark.parametrize("source", ["a", "c", "p"])
def test_what_is_normalized(source: str, options: str) -> None:
    result = apply(norm(source, options), scale_in_integers, v=VARIANCE)
    assert result.changed == (1,)
    assert result.attribute("Conv", "group") == 16
    assert list(result.node("Conv").output) == ["y"]


@pytest.mark.parametrize("text", [norm("x"), norm("r")])
def test_what_else_is_normalized_stays(text: str) -> None:
    assert apply(text, scale_in_integers, v=VARIANCE).changed == (0,)
