"""ONNX Runtime on the CPU, behind the seam of ``session.Session``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import EngineError, UsageError
from xxdeploy.optional import import_library
from xxdeploy.runtime.engines.external_data import has_external_data
from xxdeploy.runtime.engines.providers import CPU, session_in
from xxdeploy.runtime.engines.top_k import METADATA as BEST
from xxdeploy.runtime.engines.top_k import TopK
from xxdeploy.runtime.image.grid import METADATA, grid_from

_FATAL = 4  # what goes wrong is raised; a second report on stderr would only disturb a progress bar
MAX_THREADS = 1024


class OrtSession:
    """An ONNX model with one input and one or more outputs, all float32, loaded and ready.

    Parameters
    ----------
    model
        The serialized model, or its path. Give bytes where the bytes have been hashed: a path is read again.
    name
        What the session is called in tables and errors.
    threads
        Threads inside one operator. None: one for each core that this process may use.
    optimize
        False turns ONNX Runtime's graph optimizations off, to compare with them (onnxruntime#11576).
    exact
        True adds 8-bit products in 32 bits also on x86 processors without VNNI, which is slower there: for whoever
        judges a model that is meant for other processors.
    spinning
        False lets idle threads sleep. On small or shared processors spinning can double the latency.
    provider
        A GPU's execution provider (``cuda``, ``tensorrt``, ``tensorrt-rtx``) for every node that it knows. None: the
        processor. One that does not work here is an error, never a quiet step back.
    ort_format
        True for a model in ONNX Runtime's own format (``.ort``).

    Attributes
    ----------
    name, input_name, output_name : str
        ``output_name`` is the first output's.
    output_names : tuple[str, ...]
    takes_pixels : bool
        Whether the model reads the picture's bytes (n, h, w, c) uint8: nothing is left to be scaled.
    top_k : int or None
        How many classes the model itself gives, where not all (``runtime.top_k``): the others share what is left.

    Raises
    ------
    MissingDependencyError
        onnxruntime is absent (``missing-dependency``) or cannot be loaded (``broken-dependency``).
    EngineError
        ``engine-load``: the model is damaged or uses what this onnxruntime does not know;
        ``engine-external-data``: bytes that refer to weights in another file;
        ``engine-signature``: it has not exactly one float32 input, or an output that is not float32;
        ``provider-unusable``.
    UsageError
        ``threads-invalid``.
    """

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
        options.intra_op_num_threads = _default_threads() if threads is None else threads
        options.log_severity_level = _FATAL
        # Else bytes that are ONNX to check_self_contained() might be another format to onnxruntime.
        options.add_session_config_entry("session.load_model_format", "ORT" if ort_format else "ONNX")
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
        if spinning:
            # Within a run only: threads that spin on after it take the cores from whatever comes next.
            options.add_session_config_entry("session.force_spinning_stop", "1")
        else:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            # Without enable_fallback=0 a failure is printed to stdout and tried a second time.
            source = model if isinstance(model, bytes) else str(model)
            if provider is None:
                session = ort.InferenceSession(source, options, providers=[CPU], enable_fallback=0)
            else:
                session = session_in(ort, source, options, provider)
        except EngineError:
            raise
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            raise EngineError(
                f"onnxruntime {ort.__version__} cannot load the model of {name}: {first_line(error)}",
                hint="the file is damaged, or needs a newer onnxruntime (see `tools` in the manifest)",
                code="engine-load",
            ) from error
        # InferenceSession keeps the serialized model for a change of providers, which never comes here:
        # on a small device that would be the weights a second time.
        session._model_bytes = None
        inputs, outputs = session.get_inputs(), session.get_outputs()
        signature = [value.type for value in (*inputs, *outputs)]
        notes = session.get_modelmeta().custom_metadata_map
        self._grid = grid_from(notes.get(METADATA)) if signature[:1] == ["tensor(uint8)"] else None
        best = signature[1:] == ["tensor(float)", "tensor(int64)"] and [type(n) for n in outputs[0].shape[1:]] == [int]
        self._best = TopK.parse(notes.get(BEST)) if best else None
        wanted = ["tensor(float)" if self._grid is None else "tensor(uint8)", *["tensor(float)"] * len(outputs)]
        if self._best is not None:
            wanted[-1] = "tensor(int64)"
        if len(inputs) != 1 or not outputs or signature != wanted:
            raise EngineError(
                f"the model of {name} has inputs {[i.name for i in inputs]}, outputs {[o.name for o in outputs]} "
                f"of types {signature}; it must have one float32 input (or pixels) and float32 outputs",
                hint="export it with xxdeploy",
                code="engine-signature",
            )
        self._session = session
        self.name = name
        self.input_name: str = inputs[0].name
        self.output_name: str = outputs[0].name
        self.output_names: tuple[str, ...] = tuple(each.name for each in outputs[: 1 if self._best else None])
        self._first = [each.name for each in outputs] if self._best else [self.output_name]
        self.top_k: int | None = int(outputs[0].shape[1]) if self._best else None

    @property
    def takes_pixels(self) -> bool:
        """Whether uint8 pictures go in as they are."""
        return self._grid is not None

    def run(self, batch: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map a preprocessed batch (n, h, w, c) float32 to the first output (n, ...) float32.

        Where ``takes_pixels``, uint8 pictures will do; a scaled float32 batch is turned back into them.

        Raises
        ------
        EngineError
            ``engine-run``: shape or dtype do not fit, or the engine failed.
        """
        return self._fetch(batch, self._first)[0]

    def run_all(self, batch: NDArray[np.float32] | NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Map a preprocessed batch to every output by its name, the first one first. As :meth:`run`."""
        names = self._first if self._best else list(self.output_names)
        return dict(zip(self.output_names, self._fetch(batch, names), strict=True))

    def _fetch(self, batch: NDArray[np.float32] | NDArray[np.uint8], names: list[str]) -> list[NDArray[np.float32]]:
        if self._grid is not None:
            batch = self._grid.pixels(batch)
        try:
            results: list[NDArray[Any]] = self._session.run(names, {self.input_name: batch})
            if self._best is not None:
                return [self._best.spread(results[0], results[1])]
        except Exception as error:  # as above
            shape = getattr(batch, "shape", None)
            raise EngineError(
                f"{self.name} failed on a batch {shape} {getattr(batch, 'dtype', '')}: {first_line(error)}",
                hint="let the bundle's Preprocess make the batch; if it did, try optimize=False",
                code="engine-run",
            ) from error
        return results


def check_threads(threads: int | None) -> None:
    """Raise ``UsageError`` ``threads-invalid`` for a number that no engine should be asked for."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(
            f"threads must be 1 to {MAX_THREADS}, not {threads}",
            hint="leave it out to use every core that this process may use",
            code="threads-invalid",
        )


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


def _default_threads() -> int:
    """Return 0 (onnxruntime's own choice, pinned to cores), or the allowed cores where some are forbidden.

    onnxruntime counts and pins to all cores of the machine, and complains on stderr where it may not.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
        if allowed < (os.cpu_count() or allowed):
            return allowed
    return 0


def first_line(error: Exception) -> str:
    """Return the first line of an engine's message, or the name of its class."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
