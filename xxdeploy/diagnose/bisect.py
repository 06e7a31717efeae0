"""Find the first tensor that a candidate graph computes wrongly from correct inputs.

The candidate is cut at each tensor that both graphs name. Each piece reads the reference's values, so its error does
not include errors upstream, and one pass over a few images measures all pieces. (A comparison of the two whole
networks, as in a divergence table, blames each layer downstream of the first wrong one.) In an integer graph the
rounding error of each tensor is measured, too, and the distance of each weight from the float weight in steps.

The measure is the signal-to-noise ratio of ``LayerNoise``: ``10 log10(sum y^2 / sum (y - y')^2)``, in dB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError, VerificationError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.run import Arrays, GraphSession, feeds_of
from xxdeploy.optional import extra
from xxdeploy.results import decibels
from xxdeploy.runtime.image.grid import METADATA, grid_from

with extra("export"):
    from onnx import ModelProto, TensorProto, ValueInfoProto, helper

Tensors = Mapping[str, NDArray[np.float32]]

_FED = "reference//"  # a unique prefix: no tensor name has an empty layer name


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor, and the error of the piece that computes it.

    ``tensor`` is its name; ``layer`` the name of the candidate's node that writes it, beginning with the Keras layer;
    ``operator`` its ONNX operator. ``what`` is ``value``, or ``rounding`` for the error of Q and DQ alone; ``exact`` is
    True without rounding in the piece; ``sqnr_db`` as above (None if both are zeros); ``right`` is False if the shapes
    differ.
    """

    tensor: str
    layer: str
    operator: str
    what: str
    sqnr_db: float | None
    exact: bool = False
    right: bool = True


@dataclass(frozen=True, slots=True)
class WeightFault:
    """A weight that differs from the reference.

    ``index`` is the position of the largest difference, ``steps`` its size in quantization steps (inf: float graph),
    ``count`` the number of different values.
    """

    tensor: str
    index: tuple[int, ...]
    expected: float
    actual: float
    steps: float
    count: int


class Watch:
    """Run a graph and return each tensor that a node writes."""

    def __init__(self, model: OnnxModel) -> None:
        self.proto, self.arrays = model.split()
        nodes = self.proto.graph.node
        self.tensors = tuple(
            output for node in nodes for output in node.output if output and node.op_type != "QuantizeLinear"
        )
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self.tensors)
        self._inputs = [value for value in proto.graph.input if value.name not in self.arrays]
        self.inputs = tuple(value.name for value in self._inputs)
        self._session = _session(proto, self.arrays)

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Map a batch (n, h, w, c) float32 to the value of each tensor, including the inputs."""
        feeds = feeds_of(self._inputs, batch)
        return {**feeds, **_run(self._session, self.tensors, feeds)}


class Cut:
    """The candidate, cut at each tensor of ``known``, whose correct values are fed."""

    def __init__(self, model: OnnxModel, known: Iterable[str]) -> None:
        proto, arrays = model.split()
        graph = proto.graph
        inputs = [value for value in graph.input if value.name not in arrays]
        self.input: str = inputs[0].name
        # The metadata of a file with uint8 input says how a scaled batch converts back to bytes.
        self._grid = None
        kinds = {f"{_FED}{value.name}": value.type.tensor_type.elem_type for value in inputs}
        if len(inputs) == 1 and kinds[f"{_FED}{self.input}"] == TensorProto.UINT8:
            self._grid = grid_from(next((p.value for p in proto.metadata_props if p.key == METADATA), None))
        self._known = set(known) - set(arrays)
        written = {output for node in graph.node for output in node.output if output}
        self.shared = tuple(
            output for node in graph.node for output in node.output if output in self._known and output in written
        )
        readers = {name: f"{_FED}{name}" for name in (*self.shared, *(value.name for value in inputs))}
        self.pieces: list[tuple[str, str, Any, str]] = []  # fetched tensor, reference tensor, node, what
        rounded = {}  # output of Q -> its input
        for node in graph.node:
            self.pieces += [(name, name, node, "value") for name in node.output if name in self.shared]
            if node.op_type == "QuantizeLinear" and node.input[0] in readers:
                rounded[node.output[0]] = node.input[0]
            if node.op_type == "DequantizeLinear" and node.input[0] in rounded and node.output[0] not in self.shared:
                self.pieces.append((node.output[0], rounded[node.input[0]], node, "rounding"))
        for node in graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = readers.get(name, name)
        self._writers = {output: node for node in graph.node for output in node.output}
        del graph.input[:], graph.output[:], graph.value_info[:]
        self._fed = sorted({name for node in graph.node for name in node.input if name.startswith(_FED)})
        graph.input.extend(
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in self._fed
        )
        self._fetched = tuple(dict.fromkeys(fetched for fetched, *_ in self.pieces))
        graph.output.extend(ValueInfoProto(name=name) for name in self._fetched)
        self._session = _session(proto, arrays)

    def rounds(self, node: Any) -> bool:
        """Return whether a node reads a rounded tensor, directly or through nodes without a known tensor."""
        stack, seen = list(node.input), set()
        while stack:
            name = stack.pop()
            if name in seen or (before := self._writers.get(name)) is None:
                continue
            if before.op_type == "DequantizeLinear":
                return True
            seen.add(name)
            stack.extend(before.input)
        return False

    def run(self, right: Tensors) -> dict[str, NDArray[np.float32]]:
        """Compute each piece from the correct values upstream of it."""
        feeds: dict[str, NDArray[Any]] = {name: right[name.removeprefix(_FED)] for name in self._fed}
        image = f"{_FED}{self.input}"
        if self._grid is not None and image in feeds:
            feeds[image] = self._grid.pixels(feeds[image])
        return _run(self._session, self._fetched, feeds)


def measure_pieces(candidate: OnnxModel, rights: Iterable[Tensors], known: Iterable[str]) -> tuple[Piece, ...]:
    """Return the error of each piece of ``candidate``, in the order of computation.

    ``rights`` has for each batch the correct values of the tensors ``known`` and of the input; one batch is in memory
    at a time. Names that the candidate lacks are ignored (fused, or missing: see ``missing``). ``VerificationError``
    ``bisection``: ONNX Runtime cannot run the pieces.
    """
    cut = Cut(candidate, known)
    sums = {index: [0.0, 0.0] for index in range(len(cut.pieces))}
    wrong: set[int] = set()
    for right in rights:
        values = cut.run(right)
        for index, (fetched, compared, _, _) in enumerate(cut.pieces):
            expected, actual = right[compared], values[fetched]
            if expected.shape != actual.shape:
                wrong.add(index)
                continue
            signal = np.sum(np.square(expected, dtype=np.float64))
            noise = np.sum(np.square(expected.astype(np.float64) - actual))
            sums[index][0] += float(signal)
            sums[index][1] += float(noise) if np.isfinite(noise) else float("inf")
    return tuple(
        Piece(
            compared,
            node.name,
            node.op_type,
            what,
            None if index in wrong else -200.0 if sums[index][1] == float("inf") else decibels(*sums[index]),
            what == "value" and not cut.rounds(node),
            index not in wrong,
        )
        for index, (_, compared, node, what) in enumerate(cut.pieces)
    )


def missing(reference: OnnxModel, candidate: OnnxModel) -> tuple[str, ...]:
    """Return the names of the reference's nodes that write a tensor that the candidate lacks, in order."""
    have = {output for node in candidate.split()[0].graph.node for output in node.output}
    return tuple(
        node.name
        for node in reference.split()[0].graph.node
        if node.output[0] not in have and node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    )


def weight_faults(
    reference: OnnxModel, candidate: OnnxModel, *, steps: float = 1.01, relative: float = 1e-4
) -> tuple[WeightFault, ...]:
    """Compare each weight of the reference with the candidate's, dequantized if it is integer.

    Rounding moves a weight by half a step, tuned rounding by a whole one, so more than ``steps`` is a fault. A float
    weight may differ by ``relative`` times the largest value of its tensor. Biases and constants are compared in float
    graphs only, since bias correction changes them.
    """
    expected = reference.split()[1]
    proto, arrays = candidate.split()
    faults = []
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in arrays:
            continue
        name = node.input[0].removesuffix("_quantized")
        wanted = expected.get(name)
        if wanted is None or wanted.ndim < 2 or wanted.shape != arrays[node.input[0]].shape:
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1) % wanted.ndim
        scale = arrays[node.input[1]].astype(np.float64)
        zero = arrays[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros_like(scale)
        along = [-1 if index == axis else 1 for index in range(wanted.ndim)]
        step, zero = (value.reshape(along) if value.ndim else value for value in (scale, zero))
        actual = (arrays[node.input[0]].astype(np.float64) - zero) * step
        faults += _fault(name, wanted, actual, np.abs(actual - wanted) / np.broadcast_to(step, wanted.shape), steps)
    for name, wanted in expected.items():
        given = arrays.get(name)
        if given is not None and given.dtype == wanted.dtype == np.float32 and given.shape == wanted.shape:
            largest = float(np.abs(wanted).max(initial=0.0)) or 1.0
            faults += _fault(name, wanted, given, np.abs(given - wanted) / (relative * largest), 1.0, integer=False)
    return tuple(faults)


def _fault(
    name: str, wanted: NDArray[Any], actual: NDArray[Any], by: NDArray[Any], most: float, *, integer: bool = True
) -> list[WeightFault]:
    bad = ~(by <= most)
    if not bad.any():
        return []
    at = np.unravel_index(int(np.argmax(np.where(np.isnan(by), np.inf, by))), by.shape)
    return [
        WeightFault(
            name,
            tuple(int(i) for i in at),
            float(wanted[at]),
            float(actual[at]),
            float(by[at]) if integer else float("inf"),
            int(bad.sum()),
        )
    ]


def _session(proto: ModelProto, arrays: Arrays) -> GraphSession:
    try:
        return GraphSession(proto, arrays, optimize=False)  # the graph as it is written
    except ConversionError as error:
        raise _failed(error) from error


def _run(session: GraphSession, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[np.float32]]:
    try:
        return dict(zip(names, session.run(names, feeds), strict=True))
    except ConversionError as error:
        raise _failed(error) from error


def _failed(error: ConversionError) -> VerificationError:
    return VerificationError(
        f"the graph cannot run piece by piece: {str(error).strip().splitlines()[0][:300]}",
        hint="a tensor upstream has a wrong shape; `xxdeploy inspect` shows the operators",
        code="bisection",
    )
