"""An ONNX model as a value: serialized bytes, or a graph that shares its weights with another model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel import wire
from xxdeploy.optional import extra
from xxdeploy.runtime.engines.session import TensorInfo

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """A graph without weights, and the weights, which may be views of another model's bytes or of Keras' variables."""

    proto: onnx.ModelProto
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX model. Steps take one and return another; none is edited in place.

    It holds the serialized bytes, or, where another object holds most of its weights, its own parts: see
    :meth:`sharing` and :meth:`of_parts`. :meth:`to_bytes` then serializes at each call; ``split``, ``digest`` and
    ``size`` do not. Raises ``ConversionError`` (``empty-model``).
    """

    content: bytes | _Parts = field(repr=False)

    def __post_init__(self) -> None:
        if not self.content:
            raise ConversionError("the ONNX model is empty", hint="export it again", code="empty-model")

    def to_bytes(self) -> bytes:
        """Return the serialized model: a copy of all weights (VGG16: half a gigabyte) if it shares them."""
        return self.content if isinstance(self.content, bytes) else b"".join(self._chunks())

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self._chunks():
            digest.update(chunk)
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self._chunks()))

    def _chunks(self) -> Sequence[bytes | memoryview]:
        if isinstance(self.content, bytes):
            return (self.content,)
        return wire.chunks(self.content.proto, self.content.arrays)

    def proto(self) -> onnx.ModelProto:
        """Parse a new ``ModelProto`` with all weights, which the caller owns and may edit."""
        with extra("export"):
            import onnx
        return onnx.load_model_from_string(self.to_bytes())

    def split(self) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
        """Return a new ``ModelProto`` without weights, and the weights as read-only views: nothing large is copied.

        Raises ``ConversionError`` (``unreadable-onnx``, see :func:`xxdeploy.onnxmodel.wire.split`).
        """
        if isinstance(self.content, bytes):
            return wire.split(self.content)
        proto = type(self.content.proto)()
        proto.CopyFrom(self.content.proto)
        return proto, dict(self.content.arrays)

    def sharing(self, base: OnnxModel) -> OnnxModel:
        """Return this model with each array that ``base`` has under the same name, bit for bit, taken from there."""
        proto, arrays = self.split()
        held = base.split()[1]

        def kept(name: str, array: NDArray[Any]) -> NDArray[Any]:
            other = held.get(name)
            # Bits, not values: a model that holds NaN, or minus zero for zero, has another digest.
            same = other is not None and (other.dtype, other.shape) == (array.dtype, array.shape)
            return other if other is not None and same and _bits_equal(other, array) else array.copy()

        return OnnxModel(_Parts(proto, {name: kept(name, array) for name, array in arrays.items()}))

    @classmethod
    def of_parts(cls, proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> OnnxModel:
        """Return a graph and its weights as a model that serializes when it is asked to; nothing is copied.

        The caller changes neither ``proto`` nor the ``arrays``.
        """
        return cls(_Parts(proto, arrays))

    @classmethod
    def join(cls, proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> OnnxModel:
        """Serialize a graph and its weights; the inverse of ``split``."""
        return cls(wire.join(proto, arrays))

    @classmethod
    def read(cls, path: Path) -> OnnxModel:
        """Read a user's file. ``UsageError`` ``unreadable-file``, ``ConversionError`` ``empty-model``."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise UsageError(
                f"cannot read {path}: {error.strerror or error}",
                hint="check the path and its permissions",
                code="unreadable-file",
            ) from error

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto) -> OnnxModel:
        """Serialize deterministically: the same graph becomes the same bytes."""
        return cls(proto.SerializeToString(deterministic=True))


def tensors_of(model: OnnxModel) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Return the inputs and the outputs of a model, in the order of its graph."""
    graph = model.split()[0].graph
    weights = {array.name for array in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    return [_tensor(value) for value in inputs], [_tensor(value) for value in graph.output]


def _tensor(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    shape = tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
    return TensorInfo(value.name, _DTYPES.get(tensor.elem_type, f"type {tensor.elem_type}"), shape)


_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 7: "int64"}
"""NumPy's name of ``TensorProto.DataType``, for the types of inputs and outputs."""


def _bits_equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.hasobject:
        return bool(np.array_equal(one, other))
    flat, flat_other = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return bool(np.array_equal(flat, flat_other))
