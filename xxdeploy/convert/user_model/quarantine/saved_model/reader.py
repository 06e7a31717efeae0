"""Read a SavedModel folder in the child process: choose a signature, check it, and cut it out as a plain graph."""

from __future__ import annotations

import base64
import json
import math
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from xxdeploy.convert.user_model.quarantine.archive import damaged, unsafe
from xxdeploy.convert.user_model.quarantine.saved_model import message
from xxdeploy.convert.user_model.quarantine.saved_model.checkpoint import PREFIX, SIZES, Entry, read_index
from xxdeploy.convert.user_model.quarantine.saved_model.constants import Repeated
from xxdeploy.convert.user_model.quarantine.saved_model.inline import (
    FlatNode,
    ForbiddenOperationError,
    Inliner,
    Value,
    needed,
)
from xxdeploy.convert.user_model.quarantine.saved_model.nodes import Library, Node, by_name, source_of
from xxdeploy.convert.user_model.quarantine.saved_model.operations import VARIABLES
from xxdeploy.convert.user_model.quarantine.saved_model.restore import Restore
from xxdeploy.convert.user_model.quarantine.saved_model.signature import Signature, Tensor, choose_signature, names_of
from xxdeploy.convert.user_model.quarantine.sniff import SAVED_GRAPH
from xxdeploy.errors import UsageError

METADATA = "keras_metadata.pb"
CONSTANTS = "constants.bin"
"""The file of constants that the child process writes, each a serialized ``AttrValue``."""
_MAX_GRAPH = 640 << 20
_MAX_METADATA = 64 << 20
_EMBEDDED = 512  # bytes of an attribute that goes into the answer itself
_NUMBERS = frozenset(SIZES)


@dataclass(frozen=True, slots=True)
class _Graph:
    """The parts of a ``MetaGraphDef``: nodes of the main graph, functions, signatures, the node that restores."""

    nodes: Mapping[str, Node]
    library: Library
    signatures: Mapping[str, memoryview]
    restore: str
    version: str


def read_saved_model(path: Path, folder: Path, signature: str | None, facts: dict[str, Any]) -> dict[str, Any]:
    """Check a SavedModel and return one signature of it as a plain graph; large constants go to ``folder``.

    ``facts`` receives what a person wants to know, as it is found. The answer has ``inputs`` and ``outputs`` of the
    signature, ``nodes`` (each after its inputs), ``variables``, and ``layers``, the classes of Keras layers by name.

    Raises
    ------
    UsageError
        ``no-signature``, ``signature-input``, ``saved-model-operation``.
    ConversionError
        ``damaged-model``, ``unsafe-model``.
    """
    facts |= {"form": "a SavedModel folder", "name": path.name}
    try:
        with _opened(_plain(path / SAVED_GRAPH, path)) as view:
            graph = _graph(view, path)
            facts |= {"tensorflow_version": graph.version or None, "signatures": names_of(graph.signatures)}
            layers = _keras_layers(path)
            facts["layers"] = len(layers) or None
            asked = choose_signature(graph.signatures, signature, path)
            facts["inputs"] = [[tensor.name, tensor.shape or []] for tensor in asked.inputs]
            facts["outputs"] = [tensor.name for tensor in asked.outputs]
            answer = _cut(graph, asked, path, folder)
            facts["parameters"] = sum(math.prod(variable["shape"]) for variable in answer["variables"])
    except message.TooManyFieldsError as error:
        raise unsafe(path, str(error)) from error
    except ForbiddenOperationError as error:
        raise _forbidden(error, path) from error
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(path, getattr(error, "strerror", None) or str(error)) from error
    return {**answer, "signature": asked.name, "layers": layers, "version": graph.version}


def _plain(file: Path, root: Path) -> Path:
    """Return a file of the folder. ``ConversionError`` ``unsafe-model``: a link leads out of the folder."""
    if not file.resolve().is_relative_to(root.resolve()):
        raise unsafe(
            root, f"{file.name} is a link that leads out of the folder (cp -rL copies a folder with its files)"
        )
    return file


@contextmanager
def _opened(file: Path) -> Iterator[memoryview]:
    """Give a view of the bytes of a file without reading them into memory."""
    size = file.stat().st_size
    if not 0 < size <= _MAX_GRAPH:
        raise ValueError(f"{file.name} has {size:,} bytes, and may have 1 to {_MAX_GRAPH:,}")
    with file.open("rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)  # closed when no view of it is left
    yield memoryview(mapped)


def _graph(view: memoryview, path: Path) -> _Graph:
    graphs = [message.read(part) for part in message.read(view).get(2, ())]
    tags = [message.texts(message.inner(graph, 1), 4) for graph in graphs]
    serving = [graph for graph, tag in zip(graphs, tags, strict=True) if "serve" in tag and "tpu" not in tag]
    if not serving:
        said = ", ".join(sorted({tag for some in tags for tag in some})) or "none"
        raise UsageError(
            f"{path} has no graph for inference (the tag serve); its tags: {said}",
            hint="save the model again, with model.export('FOLDER') of Keras 3 or tf.saved_model.save",
            code="no-signature",
        )
    fields = serving[0]
    graph = message.inner(fields, 2)
    return _Graph(
        by_name(graph.get(1, ())),
        Library(message.inner(graph, 2).get(1, ())),
        message.mapping(fields, 5),
        message.text(message.inner(fields, 3), 3),
        message.text(message.inner(fields, 1), 5)[:40],
    )


def _cut(graph: _Graph, asked: Signature, path: Path, folder: Path) -> dict[str, Any]:
    """Return the signature as a plain graph."""
    places = _input_places(graph, asked)
    inliner = Inliner(graph.nodes, graph.library, {source_of(tensor.reference): place for tensor, place in places})
    outputs = inliner.outputs([tensor.reference for tensor in asked.outputs])
    nodes = needed(inliner.flat, outputs)
    _check_nodes(nodes)
    read = {
        value.name for value in (*outputs, *(value for node in nodes for value in node.inputs)) if value.kind == "read"
    }
    variables = _variables(graph, {name: node for name, node in inliner.variables.items() if name in read}, path)
    numbers = {f"node:{node.name}": index for index, node in enumerate(nodes)}
    numbers |= {f"read:{name}": index for index, name in enumerate(variables)}

    def reference(value: Value) -> list[Any]:
        if value.kind == "variable":
            raise ValueError(f"an output is the handle of the variable {value.name[:80]!r}")
        return [value.kind, value.index if value.kind == "input" else numbers[_key(value)], value.index]

    with (folder / CONSTANTS).open("wb") as constants:
        written = [
            {
                "name": node.name,
                "operation": node.node.operation,
                "inputs": [reference(value) for value in node.inputs],
                "attributes": {name: _stored(value, constants) for name, value in node.node.attributes.items()},
            }
            for node in nodes
        ]
    ordered = [tensor for tensor, _ in places]
    return {
        "inputs": [{"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape} for tensor in ordered],
        "outputs": [
            {"name": tensor.name, "value": reference(value)}
            for tensor, value in zip(asked.outputs, outputs, strict=True)
        ],
        "nodes": written,
        "variables": list(variables.values()),
    }


def _key(value: Value) -> str:
    return f"{value.kind}:{value.name}"


def _input_places(graph: _Graph, asked: Signature) -> list[tuple[Tensor, int]]:
    """Return the inputs with their places: the order of the arguments, as far as a node reads them in one."""
    by_node = {source_of(tensor.reference): tensor for tensor in asked.inputs}
    if len(by_node) != len(asked.inputs) or any(name not in graph.nodes for name in by_node):
        raise ValueError("two inputs of its signature are one node, or an input is no node")
    if any(tensor.reference.partition(":")[2] not in ("", "0") for tensor in asked.inputs):
        raise ValueError("an input of its signature is a second output of a node")
    readers = (node for node in graph.nodes.values() if not by_node.keys().isdisjoint(map(source_of, node.inputs)))
    order = dict.fromkeys(name for node in readers for name in map(source_of, node.inputs) if name in by_node)
    return [(by_node[name], place) for place, name in enumerate({**order, **dict.fromkeys(by_node)})]


def _stored(value: memoryview, constants: BinaryIO) -> str | list[int]:
    """Return a serialized ``AttrValue`` in base 64, or offset and length of a large one in the file of constants."""
    if len(value) <= _EMBEDDED:
        return base64.b64encode(value).decode()
    place = constants.tell()
    constants.write(value)
    return [place, len(value)]


def _check_nodes(nodes: list[FlatNode]) -> None:
    """Check the types, the constants and the meaning of attributes of the nodes that will be computed."""
    repeated = Repeated()
    norms = {flat.name for flat in nodes if flat.node.operation.startswith("FusedBatchNorm")}
    for flat in nodes:
        node = flat.node
        if any(value.kind == "node" and value.index and value.name in norms for value in flat.inputs):
            raise ForbiddenOperationError(node.operation, flat.name, "reads the statistics of a batch normalization")
        for name in node.attributes:
            fields = node.attribute(name)
            types = {message.integer(fields, 6)} if 6 in fields else set()
            types |= set(message.integers(message.inner(fields, 1), 6))
            if types - _NUMBERS:
                raise ForbiddenOperationError(node.operation, flat.name, "computes with text, complex or other values")
        if node.operation == "Const":
            repeated.check(node)
        first = bytes(node.attribute("data_format").get(2, [b""])[-1]).startswith(b"NC")
        if first and not node.operation.startswith("FusedBatchNorm"):  # Keras 2 normalizes layers by it
            raise ForbiddenOperationError(node.operation, flat.name, "computes channels first, which needs a GPU")


def _variables(graph: _Graph, nodes: Mapping[str, Node], path: Path) -> dict[str, dict[str, Any]]:
    """Return the variables by the names of their nodes: where their values are stored, and their types and shapes."""
    if not nodes:
        return {}
    if not graph.restore:
        raise ValueError("it does not say how its variables are restored")
    place = path / PREFIX
    for file in (place, *place.iterdir()):
        _plain(file, path)
    entries = read_index(place)
    stored = Restore(graph.nodes, graph.library, graph.restore).names
    shared = {name: _shared_name(node) for name, node in graph.nodes.items() if node.operation in VARIABLES}
    by_shared: dict[str, set[str]] = {}
    for name, key in stored.items():
        by_shared.setdefault(shared[name], set()).add(key)
    return {name: _variable(node, by_shared.get(shared[name], set()), entries) for name, node in nodes.items()}


def _shared_name(node: Node) -> str:
    """Return the name by which TensorFlow finds the variable of a node: two nodes of one name are one variable."""
    shared, container = (bytes(node.attribute(key).get(2, [b""])[-1]).decode() for key in ("shared_name", "container"))
    return f"{container}/{shared or node.name}"


def _variable(node: Node, keys: set[str], entries: Mapping[str, Entry]) -> dict[str, Any]:
    if len(keys) != 1:
        raise ValueError(f"the variable {node.name[:80]!r} has {'two values' if keys else 'no value'}")
    key = keys.pop()
    entry = entries.get(key)
    if entry is None:
        raise ValueError(f"the variable {node.name[:80]!r} is not in the files of variables")
    declared = message.shape_of(message.inner(node.attribute("shape"), 7))
    fits = declared is None or (
        len(declared) == len(entry.shape)
        and all(side in (None, size) for side, size in zip(declared, entry.shape, strict=True))
    )
    if entry.dtype != node.type("dtype") or entry.dtype not in _NUMBERS or not fits:
        raise ValueError(f"the variable {node.name[:80]!r} has another type or shape in the files of variables")
    return {"name": node.name, "key": key, "dtype": entry.dtype, "shape": list(entry.shape)}


def _keras_layers(path: Path) -> dict[str, str]:
    """Return the classes of Keras layers by their names, as ``keras_metadata.pb`` says; empty without it.

    Only names are read: configurations stay text, and what cannot be read is left out.
    """
    file = path / METADATA
    layers: dict[str, str] = {}
    if not file.is_file() or file.stat().st_size > _MAX_METADATA:
        return layers
    with suppress(ValueError, RecursionError):
        for part in message.read(memoryview(_plain(file, path).read_bytes())).get(1, ()):
            fields = message.read(part)
            if message.text(fields, 4) != "_tf_keras_layer":
                continue
            told = json.loads(message.text(fields, 5))
            if isinstance(told, dict) and isinstance(told.get("name"), str) and isinstance(told.get("class_name"), str):
                layers[told["name"]] = told["class_name"]
    return layers


def _forbidden(error: ForbiddenOperationError, path: Path) -> UsageError:
    return UsageError(
        f"the signature of {path} uses the operation {error.operation[:60]} (at {error.place[:120]}), which "
        f"{error.reason}",
        hint="where the model was made, save it as a .keras file (model.save('NAME.keras')) and export that; or choose "
        "another signature (--signature NAME)",
        code="saved-model-operation",
    )
