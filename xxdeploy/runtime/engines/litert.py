"""LiteRT on the CPU: the ``.tflite`` file that a bundle carries with ``export --with litert``.

It is the file for Android, browsers and microcontrollers, and XNNPACK's kernels run it here, too. Imported only where
it is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.cores import default_threads
from xxdeploy.errors import EngineError
from xxdeploy.optional import import_library
from xxdeploy.runtime.engines.session import EngineSession, TensorInfo, check_threads, reason, unloadable


class LitertSession(EngineSession):
    """A LiteRT file in its interpreter, with XNNPACK. It runs one picture at a time: other calls wait.

    Parameters
    ----------
    model
        The bytes of the file. Bytes only, so that the hashed bytes are the ones that are read.
    name
        What tables and errors call the session.
    threads
        Threads inside one inference; None: one for each processor that this process may use.
    reference
        Use LiteRT's reference kernels instead of XNNPACK's. They are slow, and are there to compare with.

    Raises
    ------
    MissingDependencyError
        ai-edge-litert is absent (``missing-dependency``) or cannot be loaded (``broken-dependency``).
    EngineError
        ``engine-load``: LiteRT cannot read the file. ``engine-signature``: it has other inputs or outputs than
        xxdeploy writes.
    UsageError
        ``threads-invalid``.
    """

    remedy = "let the bundle's Preprocess make the batch"

    def __init__(
        self, model: bytes, *, name: str = "litert", threads: int | None = None, reference: bool = False
    ) -> None:
        check_threads(threads)
        self._library = import_library("ai_edge_litert.interpreter", "litert")
        self._threads, self._reference = threads or default_threads() or 1, reference
        self._lock = threading.Lock()
        self._interpreter: Any = None
        try:
            self._restart(model)
            interpreter: Any = self._interpreter
            inputs, outputs = (
                [_tensor(detail) for detail in details]
                for details in (interpreter.get_input_details(), interpreter.get_output_details())
            )
        except Exception as error:  # pybind11 raises RuntimeError, ValueError and others
            raise unloadable(
                "LiteRT", name, reason(error), "the file is damaged, or needs a newer ai-edge-litert"
            ) from error
        super().__init__(name, inputs, outputs, partial(_note, model))
        if self._image and None in self._image:
            raise EngineError(f"{name} has a free shape", hint="export it with xxdeploy", code="engine-signature")

    def _infer(self, feeds: Sequence[NDArray[Any]], count: int) -> list[NDArray[Any]]:
        results: list[list[NDArray[Any]]] = []
        with self._lock:  # an interpreter serves one caller
            for start in range(len(feeds[0])):
                for index, feed in zip(self._first, feeds, strict=True):
                    self._interpreter.set_tensor(index, np.ascontiguousarray(feed[start : start + 1]))
                self._interpreter.invoke()
                results.append([self._interpreter.get_tensor(index) for index in self._last[:count]])
        return [np.concatenate(rows) for rows in zip(*results, strict=True)]

    def _release(self) -> None:
        with self._lock:
            self._interpreter = None

    def _leave(self) -> list[object]:
        left: list[object] = [self._interpreter]
        self._interpreter = None
        if self._lock.locked():
            self.model_again = None
        self._lock = threading.Lock()
        return left

    def _restart(self, model: bytes) -> None:
        kinds = self._library.OpResolverType
        kind = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if self._reference else kinds.AUTO
        self._interpreter = self._library.Interpreter(
            model_content=model, num_threads=self._threads, experimental_op_resolver_type=kind
        )
        self._interpreter.allocate_tensors()
        self._first = [detail["index"] for detail in self._interpreter.get_input_details()]
        self._last = [detail["index"] for detail in self._interpreter.get_output_details()]


def _tensor(detail: dict[str, Any]) -> TensorInfo:
    """Return an input or output; its first side is the batch of one, which the session extends by a loop."""
    shape = tuple(int(side) for side in detail["shape"])
    return TensorInfo(str(detail["name"]), np.dtype(detail["dtype"]).name, shape)


def _note(model: bytes, key: str) -> str | None:
    """Return the file's metadata under a key, None where there are none."""
    schema = import_library("ai_edge_litert.schema_py_generated", "litert")
    table = schema.Model.GetRootAs(model, 0)
    for index in range(table.MetadataLength()):
        entry = table.Metadata(index)
        if entry.Name() == key.encode():
            return bytes(table.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    return None
