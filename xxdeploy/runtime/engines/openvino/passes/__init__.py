"""What OpenVINO's copy of the graph is told before it is compiled.

The ONNX file is written for ONNX Runtime; what helps only OpenVINO is done here, on the graph that it read. Each pass
leaves every integer of the file as it is, up to the rounding of a bias.
"""

from __future__ import annotations

import logging
from typing import Any

from xxdeploy.runtime.engines.openvino.passes.depthwise_pools import pool_by_depthwise
from xxdeploy.runtime.engines.openvino.passes.input_zero_points import input_zero_points_as_biases
from xxdeploy.runtime.engines.openvino.passes.join_lrn import join_lrn
from xxdeploy.runtime.engines.openvino.passes.nodes import Graph
from xxdeploy.runtime.engines.openvino.passes.output_zero_points import output_zero_points_as_biases
from xxdeploy.runtime.engines.openvino.passes.relus import relus_from_zero
from xxdeploy.runtime.engines.openvino.passes.repeated_pairs import drop_repeated_pairs

PASSES = (
    join_lrn,
    drop_repeated_pairs,
    relus_from_zero,
    input_zero_points_as_biases,
    output_zero_points_as_biases,
    pool_by_depthwise,
)
_log = logging.getLogger(__name__)


def rewrite(model: Any) -> bool:
    """Run every pass on an ``openvino.Model``, in place; False where this OpenVINO does not allow one of them.

    What is left then must not be run: read it again.
    """
    try:
        graph = Graph.of(model)
        for step in PASSES:
            step(graph)
    except Exception as error:  # noqa: BLE001 - a version with other operators: slower, but the same answers
        _log.warning("OpenVINO runs the graph as it was read: %s", error)
        return False
    return True
