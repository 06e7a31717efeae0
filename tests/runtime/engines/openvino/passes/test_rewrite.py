"""All passes in a row: and what fails leaves the model as it was read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_bundle
from ovgraphs import depthwise_weights, read

from xxdeploy.runtime.engines.openvino import passes as openvino_passes
from xxdeploy.runtime.engines.openvino.graph import Graph
from xxdeploy.runtime.engines.openvino.passes import rewrite
from xxdeploy.runtime.engines.openvino.session import OpenVinoSession

BODY = """
 r = Clip(x, z, top)  d = DequantizeLinear(r, s, z)  w = DequantizeLinear(weights, ws, wz)
 y = Conv<kernel_shape = [3, 3], group = 8>(d, w)
"""


def maxima(model: Any) -> int:
    return sum(op.get_type_name() == "Maximum" for op in model.get_ordered_ops())


def test_every_pass_runs() -> None:
    model = read(BODY, weights=depthwise_weights())
    assert maxima(model) == 1
    assert rewrite(model)
    assert maxima(model) == 0


def fails(graph: Graph) -> int:
    raise RuntimeError("no such operator")


def spoils(graph: Graph) -> int:
    """Leave a graph that cannot be compiled: it reads an input that it does not have."""
    from openvino import opset13 as ops

    (node,) = graph.of_kind("Softmax")
    node.input(0).replace_source_output(ops.parameter([1, 4]).output(0))
    return 1


@pytest.mark.parametrize(("step", "said"), [(fails, "no such operator"), (spoils, "cannot compile the rewritten")])
def test_a_pass_that_fails(
    step: Callable[[Graph], int], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = OpenVinoSession(tiny_bundle.model_bytes(), threads=1)
    monkeypatch.setattr(openvino_passes, "PASSES", (step,))
    with caplog.at_level(logging.WARNING):
        other = OpenVinoSession(tiny_bundle.model_bytes(), threads=1)
    assert said in caplog.text
    batch = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    assert np.array_equal(session.run(batch), other.run(batch))
