"""Run a graph with ONNX Runtime on the workstation's CPU, and look at tensors inside it.

Bundles are run by ``xxdeploy.runtime``; everything else that runs a graph starts its session here.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel import wire
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.optional import extra

with extra("export"):
    import onnxruntime
    from onnx import ModelProto, ValueInfoProto


from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import LARGE
from xxdeploy.runtime.inputs import unpack

Arrays = Mapping[str, NDArray[Any]]
Tensors = dict[str, NDArray[np.float32]]

_FATAL = 4
"""Log level. Failures are raised; a second report on stderr would only disturb a progress bar."""


class GraphSession:
    """An ONNX Runtime session on the CPU for a graph without weights and its weights.

    ``threads`` work on one operator, 0 for one per core. Without ``optimize`` the graph runs node by node, as written.
    ``save_as`` is where to write the optimized model in ONNX Runtime's own format; only optimizations that hold for
    every processor of this kind are done then. Weights of ``large`` bytes and more take a way that holds them once.
    :meth:`run` may be called from several threads. Raises ``ConversionError`` (``calibration-run``: ONNX Runtime cannot
    load the graph).
    """

    def __init__(
        self,
        proto: ModelProto,
        arrays: Arrays,
        *,
        threads: int = 0,
        optimize: bool = True,
        save_as: Path | None = None,
        large: int = LARGE,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = threads
        levels = onnxruntime.GraphOptimizationLevel
        if not optimize:
            options.graph_optimization_level = levels.ORT_DISABLE_ALL
            # The arena grows by doubling: 1.23 instead of 0.90 GB for all layers of NASNetLarge at once, no faster.
            options.enable_cpu_mem_arena = False
        if save_as is not None:
            options.graph_optimization_level = levels.ORT_ENABLE_EXTENDED
            options.optimized_model_filepath = str(save_as)
            options.add_session_config_entry("session.save_model_format", "ORT")
        # Between two images Python works on the values; threads that spin meanwhile take the processor away from it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if save_as is not None or sum(array.nbytes for array in arrays.values()) < large:
            self._session = _start(wire.join(proto, arrays), options)
        else:  # from one file ONNX Runtime takes large weights twice while it loads
            with tempfile.TemporaryDirectory(prefix="xxdeploy-", ignore_cleanup_errors=True) as folder:
                self._session = _start(str(wire.save_apart(proto, arrays, Path(folder))), options)

    def run(self, outputs: Sequence[str], feeds: Arrays) -> list[NDArray[Any]]:
        """Return the values of ``outputs``.

        Raises ``ConversionError`` (``calibration-run``: ``feeds`` do not fit the graph, or ONNX Runtime fails).
        """
        try:
            values: list[NDArray[Any]] = self._session.run(list(outputs), dict(feeds))
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            hint = "the images must come from this model's own preprocessing (input size, channels)"
            raise _failed(error, "run the graph", hint) from error
        return values


def feeds_of(inputs: Sequence[ValueInfoProto], batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the value of each of a graph's ``inputs`` for a ``batch`` as the network reads it.

    A batch of several inputs has rows (:mod:`xxdeploy.runtime.inputs`). ``ConversionError`` ``calibration-run``: they
    do not fit.
    """
    names = [value.name for value in inputs]
    if len(names) == 1:
        return {names[0]: batch}
    shapes = [tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]) for value in inputs]
    if batch.ndim != 2 or batch.shape[1] != sum(map(math.prod, shapes)):
        reason = ValueError(f"a batch {batch.shape} does not fit the inputs {', '.join(map(str, shapes))}")
        raise _failed(reason, "run the graph", "let the preprocessing of this model make the batch")
    return dict(zip(names, unpack(batch, shapes), strict=True))


class Observer:
    """Runs a graph and returns chosen tensors, inner ones too, instead of its outputs.

    ``threads`` and ``optimize`` as for :class:`GraphSession`. Raises ``ConversionError`` (``calibration-run``).
    """

    def __init__(self, graph: Graph, tensors: Iterable[str], *, threads: int = 0, optimize: bool = True) -> None:
        self.tensors = tuple(tensors)
        self.inputs = graph.inputs
        self._inputs = list(graph.header.graph.input)
        self._fetched = [name for name in self.tensors if name not in self.inputs]
        proto = graph.proto()
        del proto.graph.output[:]
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self._fetched)
        self._session = GraphSession(proto, graph.arrays, threads=threads, optimize=optimize)

    def run(self, batch: NDArray[np.float32]) -> Tensors:
        """Map a preprocessed batch (n, h, w, c), or rows of several inputs, to the inputs and each tensor, by name.

        Raises ``ConversionError`` (``calibration-run``: the batch does not fit the graph, or ONNX Runtime fails).
        """
        # A single Gemm reads the input and writes float: nothing else is measured.
        feeds = feeds_of(self._inputs, batch)
        values = self._session.run(self._fetched, feeds) if self._fetched else []
        return {**feeds, **dict(zip(self._fetched, values, strict=True))}


def _start(model: bytes | str, options: Any) -> Any:
    try:
        # Without enable_fallback=0 a failure is printed to stdout and tried a second time.
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes derive from Exception only
        raise _failed(error, "load the graph", "an operator or its types are not supported by onnxruntime") from error
    # It keeps the serialized model for a change of providers, which never comes: the weights a second time.
    session._model_bytes = None
    return session


def _failed(error: Exception, action: str, hint: str) -> ConversionError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ConversionError(f"ONNX Runtime cannot {action}: {reason}", hint=hint, code="calibration-run")


def ort_from_onnx(model: OnnxModel) -> bytes:
    """Return ``model`` optimized, in ONNX Runtime's own format.

    Optimizations are those for every x86 processor; layouts for a single kind are left out. Raises ``ConversionError``
    (``ort-format``: onnxruntime cannot write it).
    """
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        target = Path(folder) / "model.ort"
        try:
            GraphSession(*model.split(), save_as=target)
            return target.read_bytes()
        except (ConversionError, OSError) as error:
            raise ConversionError(
                f"onnxruntime cannot write its own format: {str(error)[:200]}",
                hint="leave --ort-format out",
                code="ort-format",
            ) from error
