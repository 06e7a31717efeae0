"""Describe an ONNX file without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class OnnxFacts:
    """Figures of a model file.

    ``size`` is in bytes, ``digest`` its SHA-256; ``inputs`` and ``outputs`` read ``image float32 (batch, 224, 224,
    3)``; ``operators`` counts nodes by type, the most frequent first, with the domain where it is not ONNX' own;
    ``parameters`` counts the values of all ``initializers``, of which ``non_finite`` names those with NaN or infinity.
    """

    size: int
    digest: str
    ir_version: int
    opsets: Mapping[str, int]
    producer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: int
    operators: Mapping[str, int] = field(repr=False)
    initializers: int
    parameters: int
    non_finite: tuple[str, ...]

    @property
    def transposes(self) -> int:
        """Count of Transpose nodes: each is a copy of a whole tensor at run time."""
        return self.operators.get("Transpose", 0)

    @property
    def quantize(self) -> int:
        """Count of QuantizeLinear nodes."""
        return self.operators.get("QuantizeLinear", 0)

    @property
    def dequantize(self) -> int:
        """Count of DequantizeLinear nodes."""
        return self.operators.get("DequantizeLinear", 0)


def describe_onnx(path: Path) -> OnnxFacts:
    """Read an ONNX file and count; a subgraph of control flow counts as one node. Errors as ``OnnxModel.read``."""
    model = OnnxModel.read(path)
    proto, arrays = model.split()
    operators = Counter(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in proto.graph.node)
    return OnnxFacts(
        size=model.size,
        digest=model.digest,
        ir_version=proto.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=tuple(_signature(value) for value in proto.graph.input if value.name not in arrays),
        outputs=tuple(_signature(value) for value in proto.graph.output),
        nodes=len(proto.graph.node),
        operators=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        initializers=len(arrays),
        parameters=sum(array.size for array in arrays.values()),
        non_finite=tuple(name for name, array in arrays.items() if not _finite(array)),
    )


def _finite(array: NDArray[np.generic]) -> bool:
    """Return whether all values are finite; bfloat16 and the 8-bit floats are kind "V" to numpy."""
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _signature(value: onnx.ValueInfoProto) -> str:
    with extra("export"):
        import onnx
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    kind = "float32" if name == "float" else name
    shape = ", ".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tensor.shape.dim)
    return f"{value.name} {kind} ({shape})"
