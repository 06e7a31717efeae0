"""Small INT8 graphs, read by OpenVINO with and without a pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest

from xxdeploy.runtime.engines.openvino.graph import Graph

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed (it has wheels for some systems)")

CHANNELS = 8
HEAD = f"""
<ir_version: 8, opset_import: ["" : 17]>
g (uint8[n, {CHANNELS}, 9, 9] x) => (float[n, {CHANNELS}, a, b] y)
<float s = {{0.02}}, uint8 z = {{120}}, uint8 zero = {{0}}, uint8 top = {{255}}, float t = {{0.05}}, float u = {{0.07}},
 uint8 other = {{100}}, int8 wz = {{0}}, float ws = {{0.01}}>
"""


@dataclass(frozen=True)
class Rewritten:
    """What a pass made of a graph."""

    count: int
    before: Counter[str]
    after: Counter[str]
    off: float
    """The largest difference between the answers."""
    spread: float
    """The largest value of the answer."""


def read(body: str, **weights: np.ndarray) -> Any:
    """Parse a graph's body and read it with OpenVINO."""
    proto = onnx.parser.parse_model(f"{HEAD} {{ {body} }}")
    for name, value in weights.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return openvino.Core().read_model(model=proto.SerializeToString())


def answer(model: Any) -> np.ndarray:
    """Run on uint8 noise of one seed."""
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = np.random.default_rng(7).integers(0, 256, (2, CHANNELS, 9, 9)).astype(np.uint8)
    return np.array(compiled(batch)[0])


def apply(step: Callable[[Graph], int], body: str, **weights: np.ndarray) -> Rewritten:
    """Read, rewrite a copy, run both."""
    plain = read(body, **weights)
    other = plain.clone()
    count = step(Graph.of(other))
    before, after = answer(plain), answer(other)
    kinds = [Counter(op.get_type_name() for op in model.get_ordered_ops()) for model in (plain, other)]
    return Rewritten(count, kinds[0], kinds[1], float(np.abs(before - after).max()), float(np.abs(before).max()))


def depthwise_weights() -> np.ndarray:
    """Weights of a 3 x 3 depthwise convolution."""
    return np.random.default_rng(3).integers(-127, 128, (CHANNELS, 1, 3, 3)).astype(np.int8)
