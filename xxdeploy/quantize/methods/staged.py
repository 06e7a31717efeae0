"""Run a graph layer by layer over many images, each layer after its predecessors are final.

A method that changes a layer and then needs its successors' inputs would run the network once for each layer. Here the
tensors at the front are kept instead, as the integers of a Q/DQ graph, so that the cost is one
pass over the network, or two where each layer's output is looked at.
Memory: the images times the front, one byte per value; 96 images of MobileNetV2 take 160 MB at most.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from xxdeploy.cores import cores
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.run import GraphSession, feeds_of
from xxdeploy.optional import extra
from xxdeploy.quantize.calibration.images import map_ordered

with extra("export"):
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

T = TypeVar("T")

CHUNK = 8
"""Images per run: few enough that the float tensors of a chunk for each core stay small."""


class StagedRun:
    """A Q/DQ graph, cut after each of ``layers``, and its front on a set of images.

    ``layers`` are the outputs of the layers that will be changed, in graph order. Stage ``s`` holds the nodes that
    depend on the first ``s`` layers and on no later one: they run when those layers are final.
    """

    def __init__(self, graph: Graph, layers: Sequence[str], images: Iterable[NDArray[np.float32]]) -> None:
        self._graph, self._layers = graph, layers
        self._stage = _stages(graph, layers)
        self._last = self._last_stages()
        chunks = (batch[first : first + CHUNK] for batch in images for first in range(0, len(batch), CHUNK))
        self._fronts: Iterable[dict[str, NDArray[Any]]] = (
            feeds_of(graph.header.graph.input, chunk) for chunk in chunks
        )

    def advance(
        self, stage: int, constants: Mapping[str, NDArray[Any]], look: Callable[..., T], tensors: Sequence[str]
    ) -> list[T]:
        """Advance the front by one stage and return ``look`` of some of its tensors, chunk by chunk.

        ``look`` receives the number of the chunk and the values of ``tensors``: the output of layer ``stage``, or what
        it reads. Chunks run on all cores, one thread each, so results do not depend on the number of cores. Call this
        for every stage in order, with the graph's present ``constants``.
        """
        kept = [name for name, at in self._stage.items() if at == stage and self._last.get(name, -1) > stage]
        kept = [name for name in kept if name not in self._graph.inputs]
        fetched = [*kept, *tensors]
        fronts = iter(self._fronts)
        first = next(fronts, None)
        if first is None:
            return []
        part, reads = self._part(fetched, first)
        session = _session(self._graph, part, first, reads, fetched, constants)

        def work(item: tuple[int, dict[str, NDArray[Any]]]) -> tuple[T, dict[str, NDArray[Any]]]:
            chunk, front = item
            values = session.run(fetched, {name: front[name] for name in reads})
            alive = {name: value for name, value in front.items() if self._last.get(name, -1) > stage}
            return look(chunk, *values[len(kept) :]), {**alive, **dict(zip(kept, values, strict=False))}

        results = list(map_ordered(work, enumerate(itertools.chain([first], fronts)), cores()))
        self._fronts = [front for _, front in results]
        return [seen for seen, _ in results]

    @property
    def front(self) -> set[str]:
        """The tensors that are kept between two stages."""
        return {name for front in self._fronts for name in front}

    def _last_stages(self) -> dict[str, int]:
        """Return the last stage that reads each tensor. A DequantizeLinear runs again for each reader."""
        last: dict[str, int] = {}
        for node in self._graph.nodes:
            if node.op_type != "DequantizeLinear":
                for name in node.input:
                    source = self._source(name)
                    last[source] = max(last.get(source, -1), self._stage[node.output[0]])
        return last

    def _source(self, name: str) -> str:
        """Return the integer tensor that ``name`` is dequantized from, else ``name``."""
        node = self._graph.producers().get(name)
        return str(node.input[0]) if node is not None and node.op_type == "DequantizeLinear" else name

    def _part(self, targets: Sequence[str], front: Mapping[str, NDArray[Any]]) -> tuple[list[NodeProto], list[str]]:
        """Return the nodes from the front to ``targets``, and the tensors of the front that they read."""
        needed, reads, todo = set[str](), dict[str, None](), list(targets)
        while todo:
            name = todo.pop()
            if name in front:
                reads[name] = None
            elif (node := self._graph.producers().get(name)) is not None and node.output[0] not in needed:
                needed.add(node.output[0])
                todo.extend(node.input)
        return [node for node in self._graph.nodes if node.output[0] in needed], sorted(reads)


def _stages(graph: Graph, layers: Sequence[str]) -> dict[str, int]:
    """Return the stage of each tensor; -1 for those that depend on constants alone."""
    position = {name: index for index, name in enumerate(layers)}
    stage = dict.fromkeys(graph.constants, -1) | dict.fromkeys(graph.inputs, 0) | {"": -1}
    for node in graph.nodes:
        at = max((stage[name] for name in node.input), default=-1)
        stage.update((name, position[name] + 1 if name in position else at) for name in node.output)
    return stage


def _session(
    graph: Graph,
    nodes: Sequence[NodeProto],
    front: Mapping[str, NDArray[Any]],
    reads: Sequence[str],
    outputs: Sequence[str],
    constants: Mapping[str, NDArray[Any]],
) -> GraphSession:
    """Return a session for ``nodes`` alone."""
    used = {name for node in nodes for name in node.input}
    proto = ModelProto(ir_version=graph.header.ir_version, opset_import=graph.header.opset_import)
    types = {name: helper.np_dtype_to_tensor_dtype(front[name].dtype) for name in reads}
    proto.graph.CopyFrom(
        GraphProto(
            name="stage",
            node=nodes,
            input=[helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()],
            output=[ValueInfoProto(name=name) for name in outputs],
        )
    )
    return GraphSession(proto, {name: value for name, value in constants.items() if name in used}, threads=1)
