"""Load an exported model into the runtime's session, large weights once."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from xxdeploy.onnxmodel import wire
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.engines.ort import OrtSession

LARGE = 1 << 25
"""Bytes of weights from which they are passed to ONNX Runtime in a file of their own."""


def open_session(model: OnnxModel, *, large: int = LARGE, **options: Any) -> OrtSession:
    """Return a session of ``model`` with the ``options`` of :class:`OrtSession`, and errors as there.

    ONNX Runtime copies weights out of a serialized model while it still holds that: three times the weights together
    with ours. It maps those of ``large`` bytes and more from a file of their own.
    """
    if model.size < large:
        return OrtSession(model.to_bytes(), **options)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-", ignore_cleanup_errors=True) as folder:
        return OrtSession(wire.save_apart(*model.split(), Path(folder)), **options)
