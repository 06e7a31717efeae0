"""An ONNX model as a value: serialized bytes, or a graph that shares its weights with another model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel import wire
from xxdeploy.optional import extra

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A serialized ONNX model. Steps take one and return another; none is edited in place."""

    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.data:
            raise ConversionError("the ONNX model is empty", hint="export it again", code="empty-model")

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def proto(self) -> onnx.ModelProto:
        """Parse a fresh ``ModelProto``, which the caller owns and may edit."""
        with extra("export"):
            import onnx
        return onnx.load_model_from_string(self.data)

    def split(self) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
        """Return the graph without weights, and the weights as read-only views: nothing large is copied."""
        return wire.split(self.data)

    @classmethod
    def join(cls, proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> OnnxModel:
        """Put a graph and its weights together; the inverse of ``split``."""
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
        """Serialize deterministically: the same graph gives the same bytes."""
        return cls(proto.SerializeToString(deterministic=True))


class SharedModel(OnnxModel):
    """The ``OnnxModel`` of a graph without weights and of arrays that may be views of another model's bytes.

    ``data`` joins them anew at each call: half a gigabyte for VGG16. ``split``, ``digest`` and ``size`` do not.
    """

    __slots__ = ("_arrays", "_proto")
    _proto: onnx.ModelProto
    _arrays: Mapping[str, NDArray[Any]]

    def __init__(self, proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> None:
        object.__setattr__(self, "_proto", proto)
        object.__setattr__(self, "_arrays", dict(arrays))

    @classmethod
    def of(cls, model: OnnxModel, base: OnnxModel) -> SharedModel:
        """Return ``model``, with every array that ``base`` has under the same name taken from there."""
        proto, arrays = model.split()
        held = base.split()[1]

        def kept(name: str, array: NDArray[Any]) -> NDArray[Any]:
            other = held.get(name)
            # Bits, not values: a model that holds NaN, or minus zero for zero, has another digest.
            same = other is not None and (other.dtype, other.shape) == (array.dtype, array.shape)
            return other if other is not None and same and _bits_equal(other, array) else array.copy()

        return cls(proto, {name: kept(name, array) for name, array in arrays.items()})

    @property
    def data(self) -> bytes:
        """The serialized model."""
        return wire.join(self._proto, self._arrays)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, in hexadecimal."""
        found = hashlib.sha256()
        for chunk in wire.chunks(self._proto, self._arrays):
            found.update(chunk)
        return found.hexdigest()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, wire.chunks(self._proto, self._arrays)))

    def split(self) -> tuple[onnx.ModelProto, dict[str, NDArray[Any]]]:
        """Return the graph without weights, a copy, and the weights, which nobody may write to."""
        proto = type(self._proto)()
        proto.CopyFrom(self._proto)
        return proto, dict(self._arrays)


def _bits_equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.hasobject:
        return bool(np.array_equal(one, other))
    flat, flat_other = (np.ascontiguousarray(each).reshape(-1).view(np.uint8) for each in (one, other))
    return bool(np.array_equal(flat, flat_other))
