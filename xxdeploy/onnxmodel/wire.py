"""Read and write serialized ONNX models without copying their weights.

``onnx.load`` copies every weight into a message, ``numpy_helper`` copies it again, and writing copies it
twice more: VGG16 (553 MB) then takes 4 GB instead of 2. This module cuts the file along the protobuf wire format
(https://protobuf.dev/programming-guides/encoding): the weights become numpy views of the file's own bytes, and the
rest, a few hundred kilobytes, becomes an ordinary ``ModelProto``.

``join(*split(model)) == model`` for every canonical file: fields are written in the order of their numbers,
as ``SerializeToString(deterministic=True)`` does, so bytes and digests are the same as from ``onnx``. Canonical
means: values in ``raw_data``, and no ``doc_string`` or ``metadata_props`` on single initializers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.optional import extra
from xxdeploy.runtime.engines.external_data import read_varint

if TYPE_CHECKING:
    import onnx

Arrays = dict[str, NDArray[Any]]

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9

_PAGE = 4096
"""Bytes. A file can be mapped at multiples of this."""
_PACKED = ("int4", "uint4", "int2", "uint2", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn")
"""Types with several values per byte in the file; numpy holds one value per byte."""


def split(model: bytes) -> tuple[onnx.ModelProto, Arrays]:
    """Cut a serialized model into a ``ModelProto`` without initializers and read-only views of their values.

    Values that cannot be viewed (strings, numbers of less than a byte, typed fields such as ``float_data``) are
    converted. Raises ``ConversionError`` (``unreadable-onnx``: ``model`` is damaged or not ONNX, two initializers have
    one name, or values are in another file, which the digest would not cover).
    """
    with extra("export"):
        import onnx
        from google.protobuf.message import DecodeError
    view, head = memoryview(model), bytearray()
    arrays: Arrays = {}
    try:
        for number, start, body, end in _fields(view):
            if number != _MODEL_GRAPH:
                head += view[start:end]
                continue
            graph, rest = view[body:end], bytearray()
            for part, first, content, stop in _fields(graph):
                if part != _GRAPH_INITIALIZER:
                    rest += graph[first:stop]
                    continue
                name, array = _read_tensor(graph[content:stop])
                if name in arrays:
                    raise ValueError(f"two initializers are called {name!r}")
                arrays[name] = array
            head += _tag(_MODEL_GRAPH) + _varint(len(rest)) + rest
        proto = onnx.ModelProto.FromString(bytes(head))
        if not proto.HasField("graph"):
            raise ValueError("it holds no graph")
    except (ValueError, LookupError, TypeError, DecodeError) as error:
        raise ConversionError(
            f"the file is not a readable ONNX model: {error}",
            hint="it is damaged or of another format: export it again",
            code="unreadable-onnx",
        ) from error
    return proto, arrays


def join(proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialize ``proto`` (which holds no initializers) with ``arrays`` as its initializers, in order."""
    return b"".join(chunks(proto, arrays))


def chunks(proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> list[bytes | memoryview]:
    """Return the bytes of :func:`join` in pieces, weights as views of their arrays, so that nothing is copied."""
    import onnx
    from onnx import numpy_helper

    if proto.graph.initializer:
        raise ValueError("the initializers belong into `arrays`")
    first, last = _around(proto.graph, _GRAPH_INITIALIZER)
    parts: list[bytes | memoryview] = [first]
    for name, array in arrays.items():
        dense = _dense(array)
        if _has_no_view(array):
            small = numpy_helper.from_array(dense, name).SerializeToString(deterministic=True)
            parts.append(_tag(_GRAPH_INITIALIZER) + _varint(len(small)) + small)
            continue
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = onnx.TensorProto(dims=array.shape, data_type=kind, name=name)
        header = tensor.SerializeToString(deterministic=True) + _tag(_TENSOR_RAW_DATA) + _varint(dense.nbytes)
        parts += [
            _tag(_GRAPH_INITIALIZER) + _varint(len(header) + dense.nbytes) + header,
            dense.reshape(-1).view(np.uint8).data,
        ]
    parts.append(last)
    before, after = _around(proto, _MODEL_GRAPH)
    length = sum(len(part) for part in parts)
    return [before, _tag(_MODEL_GRAPH), _varint(length), *parts, after]


def save_apart(proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]], folder: Path) -> Path:
    """Write the graph and, next to it, a file of its weights into ``folder``; return the graph's path.

    ONNX Runtime maps such weights and reads them in place. From one file it needs them twice, and twice the time.
    """
    import onnx
    from onnx import numpy_helper

    apart = onnx.ModelProto()
    apart.CopyFrom(proto)
    with (folder / "weights.bin").open("wb") as file:
        for name, array in arrays.items():
            dense = _dense(array)
            if array.nbytes < _PAGE or _has_no_view(array):
                apart.graph.initializer.append(numpy_helper.from_array(dense, name))
                continue
            file.seek(-file.tell() % _PAGE, 1)
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = apart.graph.initializer.add(name=name, dims=array.shape, data_type=kind)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            where = {"location": "weights.bin", "offset": file.tell(), "length": dense.nbytes}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(dense.reshape(-1).view(np.uint8).data)
    path = folder / "graph.onnx"
    path.write_bytes(apart.SerializeToString())
    return path


def skeleton(proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]], *, keep: int = 4096) -> onnx.ModelProto:
    """Return a small copy of ``proto`` for the checker and for shape inference.

    Arrays of at most ``keep`` bytes are initializers (shape inference reads Reshape's target), larger ones are typed
    graph inputs.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for name, array in arrays.items():
        if array.nbytes <= keep:
            copy.graph.initializer.append(numpy_helper.from_array(_dense(array), name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            copy.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    return copy


def _dense(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` contiguous and in its own shape: ``np.ascontiguousarray`` makes a scalar a vector."""
    return np.ascontiguousarray(array).reshape(array.shape)


def _has_no_view(array: NDArray[Any]) -> bool:
    """Tell whether the bytes in the file differ from those of the array."""
    return array.dtype.hasobject or array.dtype.name in _PACKED


def _around(message: Any, number: int) -> tuple[bytes, bytes]:
    """Serialize the fields of a message before field ``number``, and those after it."""
    before, after = type(message)(), type(message)()
    before.CopyFrom(message)
    before.DiscardUnknownFields()  # they go to the end, once
    after.CopyFrom(message)
    for field in message.DESCRIPTOR.fields:
        if field.number >= number:
            before.ClearField(field.name)
        if field.number <= number:
            after.ClearField(field.name)
    return before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)


def _read_tensor(view: memoryview) -> tuple[str, NDArray[Any]]:
    """Return name and value of one ``TensorProto``; the value is a view if it is stored as ``raw_data``."""
    import onnx
    from onnx import numpy_helper

    raw: memoryview | None = None
    head = bytearray()
    for number, start, body, end in _fields(view):
        if number == _TENSOR_RAW_DATA:
            raw = view[body:end]
        else:
            head += view[start:end]
    tensor = onnx.TensorProto.FromString(bytes(head))
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"initializer {tensor.name!r} keeps its data in another file")
    if isinstance(tensor.name, bytes):  # protobuf returns bytes for a string that is not UTF-8
        raise ValueError(f"an initializer is called {tensor.name!r}")
    if raw is None:
        return tensor.name, numpy_helper.to_array(tensor)
    if tensor.dims and min(tensor.dims) < 0:
        raise ValueError(f"initializer {tensor.name!r} has the shape {tuple(tensor.dims)}")
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if kind.name in _PACKED:
        tensor.raw_data = bytes(raw)
        return tensor.name, numpy_helper.to_array(tensor)
    return tensor.name, np.frombuffer(raw, kind).reshape(tuple(tensor.dims))


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, start of the tag, start of the body, end) of each field in ``view``.

    The number is 0 for a field that is not length-delimited: those that we look for are.
    """
    at = 0
    while at < len(view):
        start = at
        tag, at = read_varint(view, at, len(view))
        kind = tag & 7
        if kind == 0:
            body, (_, at) = at, read_varint(view, at, len(view))
        elif kind == 2:
            length, body = read_varint(view, at, len(view))
            at = body + length
        elif kind in (1, 5):
            body, at = at, at + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(view):
            raise ValueError("the file ends in the middle of a field")
        yield tag >> 3 if kind == 2 else 0, start, body, at


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int) -> bytes:
    return _varint(number << 3 | 2)
