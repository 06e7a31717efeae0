"""OpenVINO on the CPU: the same bundle in another engine, often the fastest on x86.

It reads the ONNX bytes that were hashed; nothing is converted beforehand. Imported only where it is asked for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.cores import default_threads
from xxdeploy.errors import EngineError, UsageError
from xxdeploy.optional import import_library
from xxdeploy.runtime.engines.external_data import check_self_contained
from xxdeploy.runtime.engines.openvino.passes import rewrite
from xxdeploy.runtime.engines.session import EngineSession, TensorInfo, check_threads, reason, unloadable

HINTS = ("f32", "bf16")
_DTYPES = {"f32": "float32", "u8": "uint8", "i64": "int64"}
_log = logging.getLogger(__name__)


class OpenVinoSession(EngineSession):
    """An ONNX model in OpenVINO, compiled and ready.

    Single images run in a graph of fixed shape, which is up to 15 % faster; other batches in one that is compiled when
    the first of them comes. One call at a time: others wait.

    Parameters
    ----------
    model
        The serialized ONNX model. Bytes only, so that the hashed bytes are the ones that are read.
    name
        What tables and errors call the session.
    threads
        Threads inside one inference. None: OpenVINO's own choice, or fewer if affinity, a quota or
        ``OMP_NUM_THREADS`` limit them, see :func:`xxdeploy.cores.default_threads`.
    hint
        Precision of the float layers: ``f32``, or ``bf16`` (8 bits of mantissa) where the processor has it. INT8 layers
        stay INT8.
    cache
        Folder in which OpenVINO may keep compiled models, under a digest of model and settings: the next start takes a
        third of the time. Anybody who can write there can change the model that runs. None: no cache.

    Raises
    ------
    MissingDependencyError
        OpenVINO is absent (``missing-dependency``) or cannot be loaded (``broken-dependency``).
    EngineError
        ``engine-load``, ``engine-external-data``, ``engine-signature``: as ``OrtSession``. ``engine-recurrent``: an
        INT8 file with recurrent layers.
    UsageError
        ``threads-invalid``; ``hint-invalid``: another hint.
    """

    remedy = "let the bundle's Preprocess make the batch; if it did, try engine='onnxruntime'"

    def __init__(
        self,
        model: bytes,
        *,
        name: str = "openvino",
        threads: int | None = None,
        hint: str = "f32",
        cache: Path | None = None,
    ) -> None:
        check_threads(threads)
        if hint not in HINTS:
            raise UsageError(
                f"there is no precision hint {hint!r}", hint=f"it is {' or '.join(HINTS)}", code="hint-invalid"
            )
        check_self_contained(model, name)
        openvino = import_library("openvino", "openvino")
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        self._cache = cache
        if (number := threads or default_threads()) is not None:
            self._settings["INFERENCE_NUM_THREADS"] = number
        self._lock = threading.Lock()
        self._batches: Any = None
        self._new_core = openvino.Core
        try:
            self._core = self._new_core()
            self._model = self._core.read_model(model=model)
            _refuse_recurrent(self._model, name)
            inputs, outputs = ([_tensor(port) for port in ports] for ports in (self._model.inputs, self._model.outputs))
            super().__init__(name, inputs, outputs, self._note)
            self._outputs = len(outputs)
            self._single = self._start(model)
        except EngineError:
            raise
        except Exception as error:  # pybind11 raises RuntimeError, and others for what it cannot convert
            raise unloadable(
                f"OpenVINO {openvino.__version__.partition('-')[0]}",
                name,
                reason(error),
                "the file is damaged, or needs a newer OpenVINO; onnxruntime may run it (engine='onnxruntime')",
            ) from error

    def _infer(self, feeds: Sequence[NDArray[Any]], count: int) -> list[NDArray[Any]]:
        with self._lock:  # a request serves one caller
            results = self._one(feeds) if len(feeds[0]) == 1 and None not in self._image else self._several(feeds)
            # They are the request's own buffers, so they are copied under the lock.
            return [np.array(results[index]) for index in range(count)]

    def _release(self) -> None:
        with self._lock:
            self._single = self._batches = self._model = self._core = None

    def _leave(self) -> list[object]:
        left = [self._single, self._batches, self._model, self._core]
        self._single = self._batches = self._model = self._core = None
        if self._lock.locked():  # within a run, the engine's threads hold locks that nobody will release here
            self.model_again = None
        self._lock = threading.Lock()
        return left

    def _restart(self, model: bytes) -> None:
        self._core = self._new_core()
        self._model = self._core.read_model(model=model)
        self._single = self._start(model)

    def _one(self, feeds: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Run one image, a picture's bytes through the request's own tensor: a dictionary of inputs takes 0.03 ms.

        Floats of 224 x 224 take 0.15 ms to copy, so they are shared. Not by ``start_async``, either: waking the other
        thread takes 0.1 ms where the caches are cold.
        """
        if self._grid is None:
            self._single.infer(_shared(feeds), share_inputs=True, share_outputs=True)
        else:
            np.copyto(self._single.get_input_tensor(0).data, feeds[0])
            self._single.infer(share_outputs=True)
        # Not the result of `infer`: making its dictionary takes 0.01 ms.
        return [self._single.get_output_tensor(index).data for index in range(self._outputs)]

    def _several(self, feeds: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        if self._batches is None:
            self._batches = self._compile(fixed=False)
        results = self._batches.infer(_shared(feeds), share_inputs=True, share_outputs=True)
        return [results[index] for index in range(self._outputs)]

    def _start(self, model: bytes) -> Any:
        """Compile the rewritten model; where that fails, the model as it was read."""
        if rewrite(self._model):
            try:
                return self._compile(fixed=True)
            except Exception as error:  # noqa: BLE001 - the second try says whether the file is at fault
                _log.warning("OpenVINO cannot compile the rewritten graph: %s", reason(error))
        self._model = self._core.read_model(model=model)
        return self._compile(fixed=True)

    def _note(self, key: str) -> str | None:
        """Return the model's metadata under a key, None where there are none."""
        try:
            return str(self._model.get_rt_info(["framework", key]).value)
        except Exception:  # noqa: BLE001 - pybind11 raises RuntimeError where there is none
            return None

    def _compile(self, *, fixed: bool) -> Any:
        model = self._model
        if fixed and None not in self._image:
            model = model.clone()
            model.reshape({index: [1, *shape] for index, shape in enumerate(self._shapes)})
        if self._cache is not None:
            try:
                kept = {**self._settings, "CACHE_DIR": str(self._cache)}
                return self._core.compile_model(model, "CPU", kept).create_infer_request()
            except Exception as error:  # noqa: BLE001 - a full disk, a damaged file: the model itself may be right
                _log.warning("OpenVINO cannot use %s: %s", self._cache, reason(error))
                self._cache = None
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()


def _shared(feeds: Sequence[NDArray[Any]]) -> dict[int, NDArray[Any]]:
    return {index: np.ascontiguousarray(feed) for index, feed in enumerate(feeds)}


def _refuse_recurrent(model: Any, name: str) -> None:
    """Refuse recurrent layers with integers: OpenVINO 2026.4 computes an INT8 file with an LSTM wrongly (0.996 off)."""
    kinds = {node.get_type_name() for node in model.get_ops()}
    if "FakeQuantize" in kinds and any(kind.startswith(_RECURRENT) for kind in kinds):
        raise EngineError(
            f"{name} has recurrent layers in an INT8 file, for which OpenVINO has given wrong answers",
            hint="use engine='onnxruntime', or the FP32 file",
            code="engine-recurrent",
        )


_RECURRENT = ("LSTM", "GRU", "RNN")


def _tensor(port: Any) -> TensorInfo:
    dtype = str(port.get_element_type().get_type_name())
    shape = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
    return TensorInfo(str(port.get_any_name()), _DTYPES.get(dtype, dtype), shape)


def has_bf16() -> bool:
    """Tell whether OpenVINO finds bfloat16 on this processor. Errors as ``optional.import_library``."""
    return "BF16" in import_library("openvino", "openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
