from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from xxdeploy.errors import UsageError
from xxdeploy.verify.describe import describe_onnx


def write(path: Path, *arrays: tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> Path:
    """A chain of Transpose, Q, DQ and a node of another domain, with some initializers beside it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"]),
        helper.make_node("QuantizeLinear", ["t", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("Transpose", ["d"], ["u"]),
        helper.make_node("Odd", ["u"], ["y"], domain="com.example"),
    ]
    scale = numpy_helper.from_array(np.array(0.5, np.float32), "s")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1])],
        [scale, *(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, producer_name="test", ir_version=8), path)
    return path


def test_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", ("w", np.zeros((2, 3), np.float32)), ("i", np.arange(4)))
    facts = describe_onnx(path)
    assert facts.size == path.stat().st_size
    assert (facts.ir_version, facts.producer, facts.opsets) == (8, "test", {"ai.onnx": 17, "com.example": 2})
    assert facts.inputs == ("x float32 (batch, 4, ?)",)
    assert facts.outputs == ("y float16 (1)",)
    assert (facts.nodes, facts.transposes, facts.quantize, facts.dequantize) == (5, 2, 1, 1)
    assert list(facts.operators) == ["Transpose", "DequantizeLinear", "QuantizeLinear", "com.example.Odd"]
    assert (facts.initializers, facts.parameters, facts.non_finite) == (3, 11, ())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(tmp_path: Path, dtype: type, value: float) -> None:
    bad: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = np.array([1, value, 2]).astype(dtype)
    facts = describe_onnx(write(tmp_path / "m.onnx", ("good", np.ones(3, dtype)), ("bad", bad), ("n", np.arange(2))))
    assert facts.non_finite == ("bad",)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read") as caught:
        describe_onnx(tmp_path)
    assert caught.value.code == "unreadable-file"
