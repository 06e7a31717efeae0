"""OpenVINO on the CPU, behind the seam of ``session.Session``: the same bundle, another engine.

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

from xxdeploy.errors import EngineError, UsageError
from xxdeploy.optional import import_library
from xxdeploy.runtime.engines.openvino.passes import rewrite
from xxdeploy.runtime.engines.ort import check_self_contained, check_threads
from xxdeploy.runtime.engines.top_k import METADATA as BEST
from xxdeploy.runtime.engines.top_k import TopK
from xxdeploy.runtime.image.grid import METADATA, grid_from

HINTS = ("f32", "bf16")
_log = logging.getLogger(__name__)


class OpenVinoSession:
    """An ONNX model with one input and float32 outputs, compiled and ready.

    Single images run in a graph of fixed shape, which is up to 15 % faster; other batches in one that is compiled when
    the first of them comes. One call at a time: others wait.

    Parameters
    ----------
    model
        The serialized ONNX model. Bytes only: what was hashed is what is read.
    name
        What the session is called in tables and errors.
    threads
        Threads inside one inference. None: OpenVINO's own choice.
    hint
        ``f32``: float layers in float32. ``bf16``: in bfloat16 (8 bits of mantissa), where the processor has it; what
        is in INT8 stays so.
    cache
        Folder in which OpenVINO may keep what it compiled, under a digest of model and settings: the next start takes a
        third of the time. Whoever can write there decides what runs. None keeps nothing.

    Attributes
    ----------
    name, input_name, output_name : str
    output_names : tuple of str
    top_k : int or None
        As of ``runtime.engines.ort.OrtSession``.

    Raises
    ------
    MissingDependencyError
        OpenVINO is absent (``missing-dependency``) or cannot be loaded (``broken-dependency``).
    EngineError
        ``engine-load``, ``engine-external-data``, ``engine-signature``: as ``runtime.engines.ort.OrtSession``.
    UsageError
        ``threads-invalid``; ``hint-invalid``: another hint.
    """

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
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self.name = name
        try:
            self._core = openvino.Core()
            self._model = self._core.read_model(model=model)
            inputs, outputs = self._model.inputs, self._model.outputs
        except Exception as error:  # pybind11 raises RuntimeError, and others for what it cannot convert
            raise self._unloadable(openvino.__version__, error) from error
        types = [each.get_element_type().get_type_name() for each in (*inputs, *outputs)]
        self._grid = grid_from(self._note(METADATA)) if types[:1] == ["u8"] else None
        widths = [] if types[1:] != ["f32", "i64"] else list(outputs[0].get_partial_shape())[1:]
        self._best = TopK.parse(self._note(BEST)) if [each.is_static for each in widths] == [True] else None
        wanted = ["f32" if self._grid is None else "u8", *["f32"] * len(outputs)]
        if self._best is not None:
            wanted[-1] = "i64"
        if len(inputs) != 1 or not outputs or types != wanted:
            raise EngineError(
                f"the model of {name} has {len(inputs)} inputs, {len(outputs)} outputs of types {types}; "
                "it must have one float32 input (or pixels) and float32 outputs",
                hint="export it with xxdeploy",
                code="engine-signature",
            )
        self.input_name: str = inputs[0].get_any_name()
        self.output_names = tuple(str(each.get_any_name()) for each in outputs[: 1 if self._best else None])
        self.top_k = widths[0].get_length() if self._best else None
        self.output_name = self.output_names[0]
        # What does not fit would not be refused: OpenVINO sets its graph up anew for any shape.
        self._image = tuple(
            dim.get_length() if dim.is_static else None for dim in list(inputs[0].get_partial_shape())[1:]
        )
        self._dtype = np.dtype(np.float32 if self._grid is None else np.uint8)
        self._rank = len(inputs[0].get_partial_shape())
        self._lock = threading.Lock()
        self._batches: Any = None
        self._results = len(outputs)
        try:
            self._single = self._start(model)
        except Exception as error:  # as above
            raise self._unloadable(openvino.__version__, error) from error

    @property
    def takes_pixels(self) -> bool:
        """Whether uint8 pictures go in as they are; scaled ones are turned back into them."""
        return self._grid is not None

    def run(self, batch: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map a preprocessed batch (n, h, w, c) float32 to the first output (n, ...) float32.

        Raises
        ------
        EngineError
            ``engine-run``: shape or dtype do not fit, or the engine failed.
        """
        return self._fetch(batch, 1)[0]

    def run_all(self, batch: NDArray[np.float32] | NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Map a preprocessed batch to every output by its name, the first one first. Errors as :meth:`run`."""
        return dict(zip(self.output_names, self._fetch(batch, len(self.output_names)), strict=True))

    def _fetch(self, batch: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
        if self._grid is not None:
            batch = self._grid.pixels(batch)
        shape: tuple[int, ...] = getattr(batch, "shape", ())
        dtype = getattr(batch, "dtype", None)
        whole = dtype == self._dtype and len(shape) == self._rank and shape[0] > 0
        if not whole or (shape[1:] != self._image and not self._fits(shape)):
            raise self._failed(shape, dtype, f"it takes (n, {', '.join(map(str, self._image))}) {self._dtype}")
        try:
            with self._lock:  # a request serves one caller
                results = self._one(batch) if len(batch) == 1 and None not in self._image else self._several(batch)
                if self._best is not None:
                    return [self._best.spread(results[0], results[1])]
                # They are the request's own buffers, so they are copied under the lock.
                return [np.array(results[index], np.float32) for index in range(count)]
        except Exception as error:  # as in __init__
            raise self._failed(shape, dtype, _reason(error)) from error

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return all(want in (None, have) for want, have in zip(self._image, shape[1:], strict=True))

    def _one(self, batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
        """Run one image, a picture's bytes by the request's own tensor: to sort a dictionary out takes 0.03 ms.

        Floats of 224 x 224 take 0.15 ms to copy, so they are shared. Not by ``start_async``, either: waking the other
        thread takes 0.1 ms where the caches are cold.
        """
        if self._grid is None:
            shared = {0: np.ascontiguousarray(batch)}
            self._single.infer(shared, share_inputs=True, share_outputs=True)
        else:
            np.copyto(self._single.get_input_tensor(0).data, batch)
            self._single.infer(share_outputs=True)
        # Not by what `infer` returns: a dictionary by names and ports, 0.01 ms.
        return [self._single.get_output_tensor(index).data for index in range(self._results)]

    def _several(self, batch: NDArray[Any]) -> Sequence[NDArray[Any]]:
        if self._batches is None:
            self._batches = self._compile(fixed=False)
        results = self._batches.infer({0: np.ascontiguousarray(batch)}, share_inputs=True, share_outputs=True)
        return [results[index] for index in range(self._results)]

    def _start(self, model: bytes) -> Any:
        """Compile what the passes make of the model; where that fails, the model as it was read."""
        if rewrite(self._model):
            try:
                return self._compile(fixed=True)
            except Exception as error:  # noqa: BLE001 - the second try says whether the file is at fault
                _log.warning("OpenVINO cannot compile the rewritten graph: %s", _reason(error))
        self._model = self._core.read_model(model=model)
        return self._compile(fixed=True)

    def _note(self, key: str) -> str | None:
        """Return what the model's metadata hold."""
        try:
            return str(self._model.get_rt_info(["framework", key]).value)
        except Exception:  # noqa: BLE001 - pybind11 raises RuntimeError where there is none
            return None

    def _compile(self, *, fixed: bool) -> Any:
        model = self._model
        if fixed and None not in self._image:
            model = model.clone()
            model.reshape([1, *self._image])
        if self._cache is not None:
            try:
                kept = {**self._settings, "CACHE_DIR": str(self._cache)}
                return self._core.compile_model(model, "CPU", kept).create_infer_request()
            except Exception as error:  # noqa: BLE001 - a full disk, a damaged file: the model itself may be right
                _log.warning("OpenVINO cannot use %s: %s", self._cache, _reason(error))
                self._cache = None
        return self._core.compile_model(model, "CPU", self._settings).create_infer_request()

    def _unloadable(self, version: str, error: Exception) -> EngineError:
        return EngineError(
            f"OpenVINO {version.partition('-')[0]} cannot load the model of {self.name}: {_reason(error)}",
            hint="the file is damaged, or needs a newer OpenVINO; onnxruntime may run it (engine='onnxruntime')",
            code="engine-load",
        )

    def _failed(self, shape: object, dtype: object, why: str) -> EngineError:
        return EngineError(
            f"{self.name} failed on a batch {shape} {dtype}: {why}",
            hint="let the bundle's Preprocess make the batch; if it did, try engine='onnxruntime'",
            code="engine-run",
        )


def _reason(error: Exception) -> str:
    """Return the line that says something: before it come the places in OpenVINO's source that it passed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from ")), type(error).__name__)


def has_bf16() -> bool:
    """Tell whether OpenVINO finds bfloat16 on this processor. Errors as ``optional.import_library``."""
    return "BF16" in import_library("openvino", "openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
