"""ONNX Runtime on the CPU, and on a GPU through its execution providers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xxdeploy.cores import default_threads
from xxdeploy.cpu import cpu_features
from xxdeploy.errors import EngineError
from xxdeploy.optional import import_library
from xxdeploy.runtime.engines.external_data import check_self_contained
from xxdeploy.runtime.engines.providers import CPU, session_in
from xxdeploy.runtime.engines.session import EngineSession, TensorInfo, check_threads, reason, unloadable

_FATAL = 4  # log level: errors are raised, and a second report on stderr would disturb a progress bar
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}


class OrtSession(EngineSession):
    """An ONNX model in ONNX Runtime, loaded and ready; several threads may run it at once.

    Parameters
    ----------
    model
        The serialized model, or its path. Give bytes where the bytes have been hashed: a path is read again.
    name
        What tables and errors call the session.
    threads
        Threads inside one operator. None: one for each processor that affinity, the container's quota and
        ``OMP_NUM_THREADS`` leave to this process, see :func:`xxdeploy.cores.default_threads`.
    optimize
        False turns ONNX Runtime's graph optimizations off, to compare with them (onnxruntime#11576).
    spinning
        False lets idle threads sleep. On small or shared processors spinning can double the latency.
    exact
        True sums 8-bit products in 32 bits also on x86 processors without VNNI, which is slower there: to evaluate a
        model that is meant for other processors. The answers are those of a processor with VNNI.
    provider
        Execution provider of a GPU (``cuda``, ``tensorrt``, ``tensorrt-rtx``; experimental: never run on a card) for
        every node that it supports; None: the CPU. A provider that does not work here is an error, not a fallback.
    ort_format
        True for a model in ONNX Runtime's own format (``.ort``).

    Raises
    ------
    MissingDependencyError
        onnxruntime is absent (``missing-dependency``) or cannot be loaded (``broken-dependency``).
    EngineError
        ``engine-load``: the model is damaged or needs a newer onnxruntime; ``engine-external-data``: the bytes refer to
        weights in another file; ``engine-signature``: as in ``EngineSession``; ``provider-unusable``.
    UsageError
        ``threads-invalid``.
    """

    remedy = "let the bundle's Preprocess make the batch; if it did, try optimize=False"

    def __init__(
        self,
        model: bytes | Path,
        *,
        name: str = "onnxruntime",
        threads: int | None = None,
        optimize: bool = True,
        spinning: bool = True,
        exact: bool = False,
        provider: str | None = None,
        ort_format: bool = False,
    ) -> None:
        check_threads(threads)
        if isinstance(model, bytes) and not ort_format:  # which has no way to name another file
            check_self_contained(model, name)
        ort = import_library("onnxruntime", "edge")
        options = ort.SessionOptions()
        # 0 is onnxruntime's own choice: it pins to all cores of the machine, and complains on stderr where it may not.
        # It knows neither quotas nor OMP_NUM_THREADS.
        options.intra_op_num_threads = (default_threads() or 0) if threads is None else threads
        options.log_severity_level = _FATAL
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Else bytes that are ONNX to check_self_contained() might be another format to onnxruntime.
        options.add_session_config_entry("session.load_model_format", "ORT" if ort_format else "ONNX")
        if exact and "vnni" not in cpu_features():  # with VNNI sums are exact, and the option only slows them down
            options.add_session_config_entry("session.x64quantprecision", "1")
        # Spinning within a run only: threads that spin on after it take the cores from other work.
        idle = "session.force_spinning_stop" if spinning else "session.intra_op.allow_spinning"
        options.add_session_config_entry(idle, "1" if spinning else "0")
        self._start = partial(_start, ort, options=options, name=name, provider=provider)
        self._session = self._start(model)
        notes = self._session.get_modelmeta().custom_metadata_map
        outputs = [_tensor(value) for value in self._session.get_outputs()]
        super().__init__(name, [_tensor(value) for value in self._session.get_inputs()], outputs, notes.get)
        self._names = [tensor.name for tensor in outputs]

    def _infer(self, feeds: Sequence[NDArray[Any]], count: int) -> list[NDArray[Any]]:
        named = dict(zip(self.input_names, feeds, strict=True))
        outputs: list[NDArray[Any]] = self._session.run(self._names[:count], named)
        return outputs

    def _release(self) -> None:
        self._session = None

    def _leave(self) -> list[object]:
        left, self._session = [self._session], None
        return left

    def _restart(self, model: bytes) -> None:
        self._session = self._start(model)


def _start(ort: Any, model: bytes | Path, *, options: Any, name: str, provider: str | None) -> Any:
    source = model if isinstance(model, bytes) else str(model)
    try:
        if provider is not None:
            session = session_in(ort, source, options, provider)
        else:  # without enable_fallback=0 a failure is printed to stdout and tried a second time
            session = ort.InferenceSession(source, options, providers=[CPU], enable_fallback=0)
    except EngineError:
        raise
    except Exception as error:  # onnxruntime's own classes derive from Exception only
        raise unloadable(
            f"onnxruntime {ort.__version__}",
            name,
            reason(error),
            _hint(str(error), ort.__version__),
        ) from error
    # InferenceSession keeps the serialized model for a change of providers, which never comes: on a small device that
    # would be the weights a second time.
    session._model_bytes = None
    return session


def _hint(problem: str, version: str) -> str:
    """Return what helps against a model that onnxruntime refuses."""
    if (ir := re.search(r"IR version: (\d+), max supported IR version: (\d+)", problem)) is not None:
        return f"pip install -U onnxruntime: the model has IR version {ir[1]}, and {version} reads {ir[2]} at most"
    if (opset := re.search(r"[Oo]pset (\d+) is under development", problem)) is not None:
        return f"pip install -U onnxruntime: the model has opset {opset[1]}, which {version} does not know yet"
    if "is not a registered function/op" in problem or "No Op registered for" in problem:
        return "pip install -U onnxruntime: an operator of the model is not in this version or build"
    return "the file is damaged, or needs a newer onnxruntime (see `tools` in the manifest)"


def _tensor(value: Any) -> TensorInfo:
    """Read a ``NodeArg``; its free sides are names."""
    shape = tuple(side if isinstance(side, int) else None for side in value.shape or ())
    return TensorInfo(value.name, _DTYPES.get(value.type, value.type), shape)
