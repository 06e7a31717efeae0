"""Finds tensors that an ONNX file keeps in other files.

A bundle vouches for the bytes of the model file; onnxruntime, given those bytes, would go on to read
whatever path they name, from the working directory. So such a model is refused before onnxruntime sees
it. The device has no ``onnx``, and needs none: protobuf is lengths and field numbers (onnx.proto).
"""

from __future__ import annotations

from xxdeploy.errors import EngineError

# For each message, the fields in which a tensor can hide, and their message types.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_self_contained(model: bytes, name: str) -> None:
    """Raise ``EngineError`` (``engine-external-data``, ``engine-load``) unless a model holds all of its weights."""
    try:
        external = has_external_data(model)
    except ValueError as error:
        raise EngineError(
            f"the model of {name} is damaged: {error}", hint="copy or export it again", code="engine-load"
        ) from error
    if external:
        raise EngineError(
            f"the model of {name} keeps weights in another file, which nobody has checked",
            hint="save it as one file (onnx.save_model with save_as_external_data=False)",
            code="engine-external-data",
        )


def has_external_data(model: bytes) -> bool:
    """Tell whether any tensor of a serialized ``ModelProto`` lies outside of it; ``ValueError`` for no protobuf."""
    if b"location" not in model:  # the key without which there is no path: nearly every model ends here
        return False
    view = memoryview(model)
    stack = [("model", 0, len(model))]
    while stack:
        message, at, end = stack.pop()
        while at < end:
            key, at = read_varint(view, at, end)
            field, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, at = read_varint(view, at, end)
                if message == "tensor" and field == _DATA_LOCATION and value:
                    return True
                continue
            size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
            if wire == _BYTES:
                size, at = read_varint(view, at, end)
            if size is None or at + size > end:
                raise ValueError("not a protobuf")
            if message == "tensor" and field == _EXTERNAL_DATA:
                return True
            if wire == _BYTES and field in _INSIDE[message]:
                stack.append((_INSIDE[message][field], at, at + size))
            at += size
    return False


def read_varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return a protobuf integer that begins at ``at`` and where it ends; ``ValueError`` if not before ``end``."""
    value = shift = 0
    while at < end and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not a protobuf")
