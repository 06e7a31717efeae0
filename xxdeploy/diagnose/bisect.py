"""Where two graphs of one network part: the first tensor that the candidate computes wrongly from right inputs.

Two graphs whose outputs differ are cut at every tensor that both name. Each piece of the candidate is fed with the
reference's values, so its error is its own: nothing that went wrong before it is in it, and one pass over a few images
gives the error of every piece at once. (Comparing values of the two whole networks, as a divergence table does, blames
every layer after the first bad one.) Of an integer graph it is also seen what rounding does to each tensor, and how far
each weight is from the float one in steps.

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
from xxdeploy.onnxmodel.run import Arrays, GraphSession
from xxdeploy.optional import extra
from xxdeploy.results import decibels
from xxdeploy.runtime.image.grid import METADATA, grid_from

with extra("export"):
    from onnx import ModelProto, TensorProto, ValueInfoProto, helper

Tensors = Mapping[str, NDArray[np.float32]]

_FED = "reference//"  # no tensor's name begins so: a layer's name is before the first slash


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor, and the error of what computes it.

    ``tensor`` is its name, ``layer`` the node's that writes it in the candidate (which begins with the Keras layer's),
    ``operator`` the ONNX one; ``what`` is ``value``, or ``rounding`` for what Q and DQ do to the right value;
    ``exact`` where no rounding is inside; ``sqnr_db`` as above (None where both are zeros); ``right`` False where the
    shapes differ.
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
    """A weight that is not the reference's: its name, where, both values, the steps between (inf: float), how many."""

    tensor: str
    index: tuple[int, ...]
    expected: float
    found: float
    steps: float
    count: int


class Watch:
    """Runs a graph and returns every tensor that a node writes, and its outputs."""

    def __init__(self, model: OnnxModel) -> None:
        self.proto, self.arrays = model.split()
        nodes = self.proto.graph.node
        floats = [output for node in nodes for output in node.output if output and node.op_type != "QuantizeLinear"]
        self.tensors = tuple(floats)
        self.layers = {output: node.name for node in nodes for output in node.output}
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.output[:]
        proto.graph.output.extend(ValueInfoProto(name=name) for name in self.tensors)
        self.input: str = next(value.name for value in proto.graph.input if value.name not in self.arrays)
        self._session = _session(proto, self.arrays)

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Map a batch (n, h, w, c) float32 to the value of each tensor, the input among them."""
        values = _run(self._session, self.tensors, {self.input: batch})
        return {self.input: batch, **values}


class Cut:
    """The candidate, cut at every tensor of ``known`` (names whose right values will be given)."""

    def __init__(self, model: OnnxModel, known: Iterable[str]) -> None:
        proto, arrays = model.split()
        graph = proto.graph
        value = next(value for value in graph.input if value.name not in arrays)
        self.input: str = value.name
        # A file that takes the picture's bytes says how a scaled batch becomes bytes again.
        self._grid = None
        if (kind := value.type.tensor_type.elem_type) == TensorProto.UINT8:
            self._grid = grid_from(next((p.value for p in proto.metadata_props if p.key == METADATA), None))
        self._known = set(known) - set(arrays)
        written = {output for node in graph.node for output in node.output if output}
        self.shared = tuple(
            output for node in graph.node for output in node.output if output in self._known and output in written
        )
        readers = {name: f"{_FED}{name}" for name in (*self.shared, self.input)}
        self.pieces: list[tuple[str, str, Any, str]] = []  # fetched, compared with, node, what
        rounded = {}  # what Q wrote, by the tensor that it read
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
        kinds = {f"{_FED}{self.input}": kind}
        graph.input.extend(
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in self._fed
        )
        self._fetched = tuple(dict.fromkeys(fetched for fetched, *_ in self.pieces))
        graph.output.extend(ValueInfoProto(name=name) for name in self._fetched)
        self._session = _session(proto, arrays)

    def rounds(self, node: Any) -> bool:
        """Whether a node reads, as it is or through a chain that nobody knows, what was rounded."""
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
        """Compute every piece from the right values before it."""
        feeds: dict[str, NDArray[Any]] = {name: right[name.removeprefix(_FED)] for name in self._fed}
        image = f"{_FED}{self.input}"
        if self._grid is not None and image in feeds:
            feeds[image] = self._grid.pixels(feeds[image])
        return _run(self._session, self._fetched, feeds)


def measure_pieces(candidate: OnnxModel, rights: Iterable[Tensors], known: Iterable[str]) -> tuple[Piece, ...]:
    """Return the error of each piece of ``candidate``, in the order in which it computes them.

    Parameters
    ----------
    rights
        For each batch the right values of the tensors ``known`` and of the input; held one at a time.
    known
        Names of tensors. Those that the candidate does not have are left out (fused, or missing: see ``missing``).

    Raises
    ------
    VerificationError
        ``bisection``: ONNX Runtime cannot run the pieces.
    """
    cut = Cut(candidate, known)
    sums = {index: [0.0, 0.0] for index in range(len(cut.pieces))}
    wrong: set[int] = set()
    for right in rights:
        values = cut.run(right)
        for index, (fetched, compared, _, _) in enumerate(cut.pieces):
            expected, found = right[compared], values[fetched]
            if expected.shape != found.shape:
                wrong.add(index)
                continue
            signal = np.sum(np.square(expected, dtype=np.float64))
            noise = np.sum(np.square(expected.astype(np.float64) - found))
            sums[index][0] += float(signal)
            sums[index][1] += float(noise) if np.isfinite(noise) else float("inf")
    return tuple(
        Piece(
            compared,
            node.name,
            node.op_type,
            what,
            None if index in wrong else _ratio(*sums[index]),
            what == "value" and not cut.rounds(node),
            index not in wrong,
        )
        for index, (_, compared, node, what) in enumerate(cut.pieces)
    )


def missing(reference: OnnxModel, candidate: OnnxModel) -> tuple[str, ...]:
    """Return the nodes of the reference that write a tensor which the candidate does not have, in order."""
    have = {output for node in candidate.split()[0].graph.node for output in node.output}
    return tuple(
        node.name
        for node in reference.split()[0].graph.node
        if node.output[0] not in have and node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    )


def weight_faults(
    reference: OnnxModel, candidate: OnnxModel, *, steps: float = 1.01, relative: float = 1e-4
) -> tuple[WeightFault, ...]:
    """Compare each weight of the reference with the candidate's, dequantized where it is integer.

    Rounding moves a weight by half a step, tuned rounding by a whole one: more than ``steps`` is another weight. A
    float weight may differ by ``relative`` of the largest of its tensor. Biases and constants are compared in float
    graphs only, since corrections move them.
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
        found = (arrays[node.input[0]].astype(np.float64) - zero) * step
        faults += _fault(name, wanted, found, np.abs(found - wanted) / np.broadcast_to(step, wanted.shape), steps)
    for name, wanted in expected.items():
        given = arrays.get(name)
        if given is not None and given.dtype == wanted.dtype == np.float32 and given.shape == wanted.shape:
            largest = float(np.abs(wanted).max(initial=0.0)) or 1.0
            faults += _fault(name, wanted, given, np.abs(given - wanted) / (relative * largest), 1.0, integer=False)
    return tuple(faults)


def _fault(
    name: str, wanted: NDArray[Any], found: NDArray[Any], by: NDArray[Any], most: float, *, integer: bool = True
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
            float(found[at]),
            float(by[at]) if integer else float("inf"),
            int(bad.sum()),
        )
    ]


def _ratio(signal: float, noise: float) -> float | None:
    return -200.0 if noise == float("inf") else decibels(signal, noise)


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
        f"the graph cannot be run piece by piece: {str(error).strip().splitlines()[0][:300]}",
        hint="`xxdeploy inspect` shows its operators; a tensor before this place has another shape than it should",
        code="bisection",
    )
