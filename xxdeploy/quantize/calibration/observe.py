"""Run a float graph and look at tensors in its middle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel import wire
from xxdeploy.onnxmodel.graph_view import GraphView
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

with extra("export"):
    import onnxruntime
    from onnx import ModelProto, ValueInfoProto

Tensors = dict[str, NDArray[np.float32]]

_LARGE = 1 << 27
"""Bytes of weights from which a file is worth while."""
_FATAL = 4  # what goes wrong is raised; a second report on stderr would only disturb a progress bar


class Observer:
    """A session that returns chosen tensors of a one-input graph instead of its output.

    ``threads`` is how many work on one image, 0 for one a core. :meth:`run` may be called from several threads.
    """

    def __init__(self, view: GraphView, tensors: Iterable[str], *, threads: int = 0) -> None:
        self.tensors = tuple(tensors)
        self._input = view.inputs[0]
        self._fetched = [name for name in self.tensors if name != self._input]
        proto = ModelProto()
        proto.CopyFrom(view.proto)
        del proto.graph.output[:]
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self._fetched)
        self._session = session_of(proto, view.arrays, threads)

    def run(self, batch: NDArray[np.float32]) -> Tensors:
        """Map a preprocessed batch to the value of each tensor.

        Raises
        ------
        ConversionError
            ``calibration-run``: the batch does not fit the graph, or ONNX Runtime fails.
        """
        # A single Gemm reads the input and writes float: nothing else is measured.
        values = run_session(self._session, self._fetched, {self._input: batch}) if self._fetched else []
        return {self._input: batch, **dict(zip(self._fetched, values, strict=True))}


def session_of(
    proto: ModelProto, arrays: Mapping[str, NDArray[Any]], threads: int = 0, *, optimize: bool = True
) -> Any:
    """Return the session of :func:`start_session` for a graph and its weights.

    ONNX Runtime takes large weights twice while it loads, unless it finds them in a file of their own.

    Raises
    ------
    ConversionError
        ``calibration-run``.
    """
    if sum(array.nbytes for array in arrays.values()) < _LARGE:
        return start_session(OnnxModel.join(proto, arrays), threads, optimize=optimize)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-", ignore_cleanup_errors=True) as folder:
        return _start(str(wire.save_apart(proto, arrays, Path(folder))), threads, optimize=optimize)


def start_session(model: OnnxModel, threads: int = 0, *, optimize: bool = True) -> Any:
    """Return an ONNX Runtime session on the CPU, with one thread a core where ``threads`` is 0.

    Without ``optimize`` it runs the graph node by node, as written.

    Raises
    ------
    ConversionError
        ``calibration-run``.
    """
    return _start(model.data, threads, optimize=optimize)


def _start(model: bytes | str, threads: int, *, optimize: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # The arena grows by doubling: 1.23 instead of 0.90 GB for all layers of NASNetLarge side by side, no faster.
        options.enable_cpu_mem_arena = False
    # Between two images Python works on the values; threads that spin meanwhile take the processor away from it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # Without enable_fallback=0 a failure is printed to stdout and tried a second time.
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes derive from Exception only
        raise _failed(error) from error
    # It keeps the serialized model for a change of providers, which never comes: the weights a second time.
    session._model_bytes = None
    return session


def run_session(session: Any, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a session of :func:`start_session`.

    Raises
    ------
    ConversionError
        ``calibration-run``.
    """
    try:
        values: list[NDArray[Any]] = session.run(list(outputs), dict(feeds))
    except Exception as error:  # as above
        raise _failed(error) from error
    return values


def _failed(error: Exception) -> ConversionError:
    return ConversionError(
        f"ONNX Runtime could not run the graph on a calibration batch: {str(error).strip().splitlines()[0]}",
        hint="the images must come from this model's own preprocessing (input size, channels)",
        code="calibration-run",
    )
