"""Turn the answer of the quarantine for a SavedModel into a program with the values of its weights."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.user_model.quarantine.saved_model.signature import DTYPES
from xxdeploy.convert.user_model.saved_model.naming import layer_names
from xxdeploy.convert.user_model.saved_model.program import FLOATS, Operation, Program, Ref, array_from
from xxdeploy.errors import ConversionError

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class SavedSignature:
    """A signature as data: its program, the shapes of its inputs with the batch axis, and names.

    ``values`` are arrays of the weights in the order of ``program.weights``; ``outputs`` names the program's outputs;
    ``names`` has the layer of each operation; ``whole`` are the places of inputs of whole numbers.
    """

    name: str
    program: Program
    inputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    whole: frozenset[int]
    values: tuple[NDArray[Any], ...] = field(repr=False)
    notes: tuple[str, ...] = ()


def shape_of(given: Mapping[str, Any]) -> Shape:
    """Return the shape of an input in the answer of the quarantine; one of unknown rank is a picture of any size."""
    return (None, None, None, 3) if given["shape"] is None else tuple(given["shape"])


def signature_from(answer: Mapping[str, Any], path: Path, constants: Path) -> SavedSignature:
    """Return the plain graph of the child process as a program, with the values of its weights.

    ``ConversionError`` ``damaged-model``: the files of variables are damaged.
    """
    import tensorflow as tf
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

    values = _values(tf, answer["variables"], path)
    floats = [index for index, variable in enumerate(answer["variables"]) if variable["dtype"] in FLOATS]
    arrays = [values[index] for index in range(len(values)) if index not in set(floats)]
    places = {index: Ref("weight", place) for place, index in enumerate(floats)}
    places |= {
        index: Ref("constant", place) for place, index in enumerate(i for i in range(len(values)) if i not in places)
    }
    refs: list[Ref] = []
    operations: list[Operation] = []
    large = constants.read_bytes()

    def attribute(stored: str | list[int]) -> Any:
        raw = base64.b64decode(stored) if isinstance(stored, str) else large[stored[0] : stored[0] + stored[1]]
        return AttrValue.FromString(raw)

    def ref(value: list[Any]) -> Ref:
        kind, index, output = value[0], int(value[1]), int(value[2])
        if kind == "node":
            return refs[index]._replace(output=output) if refs[index].kind == "result" else refs[index]
        return places[index] if kind == "read" else Ref("input", index)

    for node in answer["nodes"]:
        if node["operation"] == "Const":
            arrays.append(array_from(attribute(node["attributes"]["value"])))
            refs.append(Ref("constant", len(arrays) - 1))
            continue
        refs.append(Ref("result", len(operations)))
        attributes = {name: attribute(stored) for name, stored in node["attributes"].items()}
        operations.append(Operation(node["name"], node["operation"], tuple(map(ref, node["inputs"])), attributes))
    outputs = tuple(ref(output["value"]) for output in answer["outputs"])
    weights = tuple(values[index] for index in floats)
    program = Program(
        tuple(operations), outputs, len(answer["inputs"]), tuple(array.shape for array in weights), tuple(arrays)
    )
    variables = [answer["variables"][index]["name"] for index in floats]
    reads = {
        index: variables[one.place]
        for index, operation in enumerate(operations)
        for one in operation.inputs
        if one.kind == "weight"
    }
    leaves = [name for name, kind in answer["layers"].items() if kind not in ("Functional", "Model", "Sequential")]
    return SavedSignature(
        answer["signature"],
        program,
        tuple(given["name"] for given in answer["inputs"]),
        tuple(shape_of(given) for given in answer["inputs"]),
        tuple(output["name"] for output in answer["outputs"]),
        tuple(layer_names([operation.path for operation in operations], known=leaves, with_weights=reads)),
        frozenset(place for place, given in enumerate(answer["inputs"]) if given["dtype"] not in FLOATS),
        weights,
        _said(answer, operations),
    )


def _said(answer: Mapping[str, Any], operations: Sequence[Operation]) -> tuple[str, ...]:
    """Return notes on types that differ from those of the bundle."""
    kinds = {variable["dtype"] for variable in answer["variables"]}
    kinds |= {attribute.type for operation in operations for attribute in operation.attributes.values()}
    others = sorted(DTYPES[kind] for kind in kinds & FLOATS - {1})
    return (f"the model computes in {', '.join(others)}; it is exported and measured in float32",) if others else ()


def _values(tf: Any, variables: Sequence[Mapping[str, Any]], path: Path) -> list[NDArray[Any]]:
    """Read the values of variables; TensorFlow compares their checksums."""
    if not variables:
        return []
    try:
        reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
        arrays = [np.asarray(reader.get_tensor(variable["key"])) for variable in variables]
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ConversionError(
            f"{path} is damaged: {' '.join(str(error).split())[:200]}",
            hint="the copy or download may be incomplete: fetch it or save it again",
            code="damaged-model",
        ) from error
    return [
        array.astype(np.float32) if variable["dtype"] in FLOATS and array.dtype != np.float32 else array
        for array, variable in zip(arrays, variables, strict=True)
    ]
