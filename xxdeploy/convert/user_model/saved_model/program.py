"""A part of a TensorFlow graph as a value, and how it is run: operation by operation, with ``tf.raw_ops``.

The operations are those of ``quarantine.saved_model.operations``, which only compute. A run in float32 uses
TensorFlow's own kernels with the attributes of the file, so it gives the answers of the signature. The same program
runs in float64 (for the rounding errors of float32), and in the forms that tf2onnx converts exactly (``forms.LEAN``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.user_model.quarantine.saved_model.operations import words
from xxdeploy.errors import UsageError

FLOATS = frozenset({1, 2, 14, 19})
"""float32, float64, bfloat16 and float16 among the numbers of ``tf.DType``: all compute in one type here."""
_COUNTS_PIXELS = words(
    """
    Cast ConcatV2 ExpandDims Pack Pad PadV2 Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
    ReverseV2 ScaleAndTranslate Shape Slice Squeeze StridedSlice Tile Transpose
    """
)
"""Operations on whole numbers that give the same numbers in float32: pixels of type uint8 go through them as floats."""


class Ref(NamedTuple):
    """What an operation reads: an ``input`` of the program, a ``weight``, a ``constant`` or output of a ``result``."""

    kind: Literal["input", "weight", "constant", "result"]
    place: int
    output: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its path in the SavedModel, its TensorFlow type, what it reads, and its ``AttrValue`` by name."""

    path: str
    type: str
    inputs: tuple[Ref, ...]
    attributes: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Program:
    """Operations in order, each after those that it reads, and the outputs.

    ``constants`` and ``weights`` are what ``Ref`` counts; of weights the program holds the shapes only.
    """

    operations: tuple[Operation, ...]
    outputs: tuple[Ref, ...]
    inputs: int
    weights: tuple[tuple[int, ...], ...]
    constants: tuple[NDArray[Any], ...] = field(repr=False)

    def depends_on_input(self) -> list[bool]:
        """Return for each operation whether it reads an input, also through others."""
        depends: list[bool] = []
        for operation in self.operations:
            depends.append(
                any(ref.kind == "input" or (ref.kind == "result" and depends[ref.place]) for ref in operation.inputs)
            )
        return depends

    def depends_on_weights(self) -> list[bool]:
        """Return for each operation whether it reads a weight, also through others."""
        depends: list[bool] = []
        for operation in self.operations:
            depends.append(
                any(ref.kind == "weight" or (ref.kind == "result" and depends[ref.place]) for ref in operation.inputs)
            )
        return depends


Form = Callable[[Any, Operation, list[Any]], "list[Any] | None"]


def run(
    tf: Any,
    program: Program,
    inputs: Sequence[Any],
    weights: Mapping[int, Any],
    *,
    given: Mapping[Ref, Any] = {},
    forms: Mapping[str, Form] = {},
    dtype: Any = None,
    seen: Callable[[int, list[Any]], None] | None = None,
) -> list[Any]:
    """Run a program and return its outputs.

    Parameters
    ----------
    tf : module
        TensorFlow, in a graph or eagerly.
    program : Program
        What to run.
    inputs : Sequence[tensor]
        One for each input.
    weights : Mapping[int, tensor]
        The weights that are read. With ``given`` those may be missing that only replaced operations read.
    given : Mapping[Ref, tensor]
        Results that are known, so that the operations for them are not run.
    forms : Mapping[str, Form]
        Functions that run a type of operation in another form; one may return None to leave it as it is.
    dtype : tf.DType
        The float type of all computations, float32 by default.
    seen : Callable
        Gets the index of each operation and its outputs.
    """
    dtype = dtype or tf.float32
    results: dict[int, list[Any]] = {}
    constants: dict[int, Any] = {}

    def value(ref: Ref) -> Any:
        if ref in given:
            return given[ref]
        if ref.kind == "constant":
            if ref.place not in constants:
                constants[ref.place] = _constant(tf, program.constants[ref.place], dtype)
            return constants[ref.place]
        if ref.kind == "result":
            return results[ref.place][ref.output]
        return inputs[ref.place] if ref.kind == "input" else weights[ref.place]

    for index in _needed(program, given):
        operation = program.operations[index]
        tensors = _typed(tf, operation, [value(ref) for ref in operation.inputs], dtype)
        form = forms.get(operation.type)
        outputs = form(tf, operation, tensors) if form else None
        results[index] = outputs if outputs is not None else call(tf, operation, tensors, dtype)
        if seen is not None:
            seen(index, results[index])
    return [value(ref) for ref in program.outputs]


def _needed(program: Program, given: Iterable[Ref]) -> list[int]:
    """Return the operations that the outputs need, in order, without those whose results are all given."""
    known = set(given)
    wanted = {ref.place for ref in program.outputs if ref.kind == "result" and ref not in known}
    for index in range(len(program.operations) - 1, -1, -1):
        if index in wanted:
            wanted |= {
                ref.place for ref in program.operations[index].inputs if ref.kind == "result" and ref not in known
            }
    return sorted(wanted)


def _constant(tf: Any, array: NDArray[Any], dtype: Any) -> Any:
    tensor = tf.constant(array)
    return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor


@cache
def _definition(name: str) -> Any:
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name)


def arguments(operation: Operation) -> list[tuple[Any, int]]:
    """Return each argument of an operation (``ArgDef``) with its number of tensors."""
    definition = _definition(operation.type)
    total, fixed = len(operation.inputs), sum(not argument.number_attr for argument in definition.input_arg)
    counts = []
    for argument in definition.input_arg:
        number = operation.attributes.get(argument.number_attr) if argument.number_attr else None
        counts.append((argument, int(number.i) if number is not None else total - fixed if argument.number_attr else 1))
    if sum(count for _, count in counts) != total:
        raise ValueError(f"{operation.path} ({operation.type}) has {total} inputs")
    return counts


def _typed(tf: Any, operation: Operation, tensors: list[Any], dtype: Any) -> list[Any]:
    """Return the inputs of an operation in the types that it expects: all floats are ``dtype``."""
    typed: list[Any] = []
    for argument, count in arguments(operation):
        declared = type_of(operation, argument.type_attr) if argument.type_attr else argument.type
        expected = dtype if declared in FLOATS else tf.as_dtype(declared) if declared else None
        for tensor in tensors[len(typed) : len(typed) + count]:
            if expected is None or tensor.dtype == expected:
                typed.append(tensor)
            elif tensor.dtype.is_floating and not expected.is_floating:
                # pixels that the signature takes as whole numbers and the bundle gives as floats
                if operation.type not in _COUNTS_PIXELS:
                    raise UsageError(
                        f"the model computes with whole numbers ({expected.name}) at {operation.path} "
                        f"({operation.type}), and a bundle computes with floats",
                        hint="cast the input to float32 first, where the model was made, and save it again",
                        code="saved-model-operation",
                    )
                typed.append(tf.cast(tensor, dtype))
            else:
                typed.append(tf.cast(tensor, expected))
    kinds = {tensor.dtype for tensor in typed}
    if operation.type in ("ConcatV2", "Pack") and dtype in kinds:
        typed = [
            tf.cast(tensor, dtype) if index < len(typed) - (operation.type == "ConcatV2") else tensor
            for index, tensor in enumerate(typed)
        ]
    return typed


def type_of(operation: Operation, name: str) -> int:
    """Return the number of the ``tf.DType`` in an attribute, or its default."""
    if name in operation.attributes:
        return int(operation.attributes[name].type)
    default = next((attr.default_value.type for attr in _definition(operation.type).attr if attr.name == name), 0)
    return int(default)


def call(tf: Any, operation: Operation, tensors: Sequence[Any], dtype: Any) -> list[Any]:
    """Run one operation by its own kernel; one without a kernel for float64 runs in float32."""
    if operation.type == "Cast" and _attribute(tf, operation.attributes["DstT"], dtype) == tensors[0].dtype:
        return [tensors[0]]
    definition = _definition(operation.type)
    named: dict[str, Any] = {}
    rest = list(tensors)
    inferred = set()
    for argument, count in arguments(operation):
        named[argument.name] = rest[:count] if argument.number_attr else rest[0]
        rest = rest[count:]
        inferred |= {argument.type_attr, argument.number_attr, argument.type_list_attr}
    for attr in definition.attr:
        if attr.name in operation.attributes and attr.name not in inferred:
            named[attr.name] = _attribute(tf, operation.attributes[attr.name], dtype)
    function = getattr(tf.raw_ops, operation.type)
    renamed = _renamed(operation.type)
    named = {renamed.get(key, key): value for key, value in named.items()}
    name = operation.path.rpartition("/")[2]
    try:
        outputs = function(**named, name=name)
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError, TypeError):
        if dtype != tf.float64:
            raise
        single = {key: _cast(tf, value, tf.float32) for key, value in named.items()}
        outputs = _cast(tf, function(**single, name=name), tf.float64)
    listed = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    return _cast(tf, listed, dtype) if dtype == tf.float64 else listed  # some kernels answer in float32


@cache
def _renamed(name: str) -> dict[str, str]:
    """Return the arguments that ``tf.raw_ops`` calls by another name: ``reduction_indices`` is ``axis`` there."""
    import tensorflow as tf

    definition = _definition(name)
    inferred = {attr for arg in definition.input_arg for attr in (arg.type_attr, arg.number_attr, arg.type_list_attr)}
    own = [arg.name for arg in definition.input_arg]
    own += [attr.name for attr in definition.attr if attr.name not in inferred]
    given = [key for key in inspect.signature(getattr(tf.raw_ops, name)).parameters if key != "name"]
    old, new = [key for key in own if key not in given], [key for key in given if key not in own]
    return dict(zip(old, new, strict=True))


def _cast(tf: Any, value: Any, dtype: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_cast(tf, item, dtype) for item in value]
    return tf.cast(value, dtype) if tf.is_tensor(value) and value.dtype.is_floating else value


def _attribute(tf: Any, attribute: Any, dtype: Any) -> Any:
    """Return an ``AttrValue`` as Python's value, with all float types as ``dtype``."""
    kind = attribute.WhichOneof("value")
    if kind == "type":
        return dtype if attribute.type in FLOATS else tf.as_dtype(attribute.type)
    if kind == "shape":
        return tf.TensorShape(attribute.shape)
    if kind == "list":
        return next((list(values) for _, values in attribute.list.ListFields()), [])
    return getattr(attribute, kind) if kind else None


def array_from(attribute: Any) -> NDArray[Any]:
    """Return the array of a ``Const``: floats as float32, other types as they are."""
    from tensorflow import make_ndarray

    array: NDArray[Any] = make_ndarray(attribute.tensor)
    return array.astype(np.float32) if attribute.tensor.dtype in FLOATS else array
