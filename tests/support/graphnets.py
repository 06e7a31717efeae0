"""Test graphs written as ONNX text, the passes run on them, and ONNX Runtime as the judge of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import Pass
from xxdeploy.passes.optimize import optimize as optimized

Feeds = Mapping[str, NDArray[Any]]

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
CPU = ["CPUExecutionProvider"]


def parse(text: str, *, seed: int = 0, header: str = HEADER, **arrays: Any) -> OnnxModel:
    """Return the model of ``text``.

    Initializers stand in the text with their values, or without: those are taken from ``arrays``, or drawn.
    """
    proto = onnx.parser.parse_model(header + text)
    made = {name for node in proto.graph.node for name in node.output}
    declared = [value for value in proto.graph.value_info if value.name not in made]
    kept = [value for value in proto.graph.value_info if value.name in made]
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(kept)
    rng = np.random.default_rng(seed)
    for value in declared:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        drawn = rng.uniform(0.25, 1.25, shape) * rng.choice([-1, 1], shape)
        array = arrays.pop(value.name, drawn)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array).astype(dtype), value.name))
    assert not arrays, f"the text declares no {sorted(arrays)}"
    onnx.checker.check_model(proto, full_check=True)
    return OnnxModel.from_proto(proto)


NCHW = "(float[n,3,6,6] x) => (float[n,4,h,w] y)"
SAME = "(float[n,3,6,6] x) => (float[n,3,h,w] y)"


def network(signature: str, body: str, **arrays: object) -> OnnxModel:
    """Return a checked graph; ``signature`` is ONNX text such as ``(float[n,4,4,3] x) => (float[n,4,4,3] y)``.

    ``arrays`` are its weights. A tuple stands for a seeded random float32 weight of that shape.
    """
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {signature} {{ {body} }}')
    random = np.random.default_rng(0)
    for name, value in arrays.items():
        array = random.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return OnnxModel.from_proto(proto)


def run_passes(before: OnnxModel, *passes: Pass, optimize: bool = False) -> tuple[list[str], list[int]]:
    """Apply passes, compare the outputs on three random images, return the operators left and the counts.

    ``optimize`` turns ONNX Runtime's own graph optimizations on for the result.
    """
    after, records = optimized(before, passes)
    shape = [dim.dim_value or 3 for dim in before.proto().graph.input[0].type.tensor_type.shape.dim]
    feeds = {before.proto().graph.input[0].name: np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    (wanted,), (given,) = run(before, feeds).values(), run(after, feeds, optimize=optimize).values()
    np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-5)
    return [node.op_type for node in Graph(after).nodes], [int(record.facts["changed"]) for record in records]


@dataclass(frozen=True, slots=True)
class Result:
    """A model before and after some passes, and what each pass returned."""

    before: OnnxModel
    after: OnnxModel
    changed: tuple[int, ...]

    @property
    def ops(self) -> Counter[str]:
        return ops(self.after)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return self.after.split()[1]

    def node(self, kind: str) -> Any:
        """Return the only node of ``kind``."""
        (nodes,) = [node for node in self.after.proto().graph.node if node.op_type == kind]
        return nodes

    def attribute(self, kind: str, name: str) -> Any:
        (attributes,) = [item for item in self.node(kind).attribute if item.name == name]
        return onnx.helper.get_attribute_value(attributes)


def apply(
    source: str | OnnxModel, *passes: Pass, same: bool = True, feeds: Feeds | None = None, **arrays: Any
) -> Result:
    """Run ``passes``; the result is a valid model and, on random inputs of batch 1 and 3, gives the same outputs."""
    model = parse(source, **arrays) if isinstance(source, str) else source
    after, records = optimized(model, passes)
    onnx.checker.check_model(after.proto(), full_check=True)
    if same:
        assert_same(model, after, feeds)
    return Result(model, after, tuple(int(record.facts["changed"]) for record in records))


def assert_same(before: OnnxModel, after: OnnxModel, feeds: Feeds | None = None, *, tolerance: float = 1e-5) -> None:
    """Both give the same outputs, under the same names, within ``tolerance`` of the largest value."""
    for given in [feeds] if feeds else [random_feeds(before, 1), random_feeds(before, 3)]:
        wanted, got = run(before, given), run(after, given)
        assert list(wanted) == list(got)
        for name, value in wanted.items():
            assert got[name].dtype == value.dtype
            assert got[name].shape == value.shape
            scale = float(np.abs(value).max(initial=1e-6)) if value.dtype.kind == "f" else 1.0
            np.testing.assert_allclose(got[name], value, rtol=0, atol=tolerance * scale, err_msg=name)


def random_feeds(model: OnnxModel, batch: int, seed: int = 1) -> dict[str, NDArray[Any]]:
    """Return normal values (of both signs) for each input; free axes have the size ``batch``."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.proto().graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = np.asarray(rng.normal(0, 2, shape)).astype(dtype)
    return feeds


def run(model: OnnxModel, feeds: Feeds, *, optimize: bool = False) -> dict[str, NDArray[Any]]:
    """Return the outputs by name, with ONNX Runtime's own graph optimizations off unless asked for."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=CPU)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def ops(model: OnnxModel) -> Counter[str]:
    """Count the operators."""
    return Counter(node.op_type for node in model.proto().graph.node)
