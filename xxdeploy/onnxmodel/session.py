"""Load an exported model into the runtime's session, large weights once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xxdeploy.onnxmodel import wire
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.engines.ort import OrtSession

LARGE = 1 << 25
"""Bytes of weights from which they are passed to ONNX Runtime in a file of their own."""


def _with_own_weights(model: OnnxModel) -> OnnxModel:
    """Return ``model`` with a copy of integer weights for each layer that reads them.

    To be exact, ONNX Runtime 1.31 rewrites such weights for each of their readers under one name, and fails at the
    second ("Attempt to replace the existing tensor").
    """
    proto, arrays = model.split()
    seen: set[str] = set()
    copies: dict[str, NDArray[Any]] = {}
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in arrays:
            continue
        name = str(node.input[0])
        if name in seen:
            copies[f"{name}:{len(copies)}"] = arrays[name]
            node.input[0] = list(copies)[-1]
        seen.add(name)
    return OnnxModel.join(proto, {**arrays, **copies}) if copies else model


def open_session(model: OnnxModel, *, large: int = LARGE, **options: Any) -> OrtSession:
    """Return a session of ``model`` with the ``options`` of :class:`OrtSession`, and errors as there.

    ONNX Runtime copies weights out of a serialized model while it still holds that: three times the weights together
    with ours. It maps those of ``large`` bytes and more from a file of their own.
    """
    if options.get("exact"):
        model = _with_own_weights(model)
    if model.size < large:
        return OrtSession(model.to_bytes(), **options)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-", ignore_cleanup_errors=True) as folder:
        return OrtSession(wire.save_apart(*model.split(), Path(folder)), **options)
