"""The Keras layer that computes a part of a SavedModel's graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from xxdeploy.convert.user_model.quarantine.saved_model.operations import words
from xxdeploy.convert.user_model.saved_model.forms import EXACT, LEAN, expand_norms
from xxdeploy.convert.user_model.saved_model.program import Operation, Program, Ref, run

_RESHAPING = frozenset({"Cast", "ExpandDims", "Reshape", "Squeeze"})
_SCALING = frozenset({"Add", "AddV2", "Div", "DivNoNan", "Mul", "RealDiv", "Sub"})
_KEEPS_PIXELS = _SCALING | words(
    """
    Cast ClipByValue ConcatV2 ExpandDims GatherV2 Maximum Minimum MirrorPad Pack Pad PadV2 Reshape ResizeArea
    ResizeBicubic ResizeBilinear ResizeNearestNeighbor Reverse ReverseV2 ScaleAndTranslate Slice Split Squeeze
    StridedSlice Transpose Unpack
    """
)
_FEW = 4
"""Numbers of a constant that stays in the graph: factors, means of channels, the arguments of an operation."""
_WEIGHED = frozenset({"Conv2D", "MatMul"})
_BIASED = frozenset({"Add", "AddV2", "BiasAdd"})


@dataclass(frozen=True, slots=True)
class End:
    """The last operation of an output that does more than reshape.

    ``activation`` is ``softmax``, ``sigmoid``, ``linear`` or the operation in lower case; ``weighs``: it is a dense
    layer or a convolution, with its bias. ``through`` is the input of the layer that arrives at the output, None if the
    layer computes the output; ``adds``: a bias is added to that input.
    """

    activation: str
    weighs: bool = False
    through: int | None = None
    adds: bool = False


class SavedModelLayer(keras.layers.Layer):  # type: ignore[misc]
    """Runs a ``Program`` with TensorFlow's own kernels.

    ``specs`` are shape and dtype of each output. While ``trace`` traces a model, the class attribute ``operands`` has
    the tensors for :meth:`operand_values` by the ``id`` of the layer; the layer then runs in the forms of
    ``forms.LEAN``.
    """

    operands: ClassVar[Mapping[int, Sequence[Any]]] = {}

    def __init__(
        self, program: Program, specs: Sequence[tuple[tuple[int | None, ...], str]], variables: Sequence[Any], name: str
    ) -> None:
        super().__init__(name=name)
        self.program = program
        self.specs = tuple(specs)
        self.saved_weights = list(variables)  # Keras tracks variables in lists
        self.built = True

    def compute_output_spec(self, *_: Any, **__: Any) -> Any:
        """Return the shapes and dtypes of the outputs."""
        outputs = [keras.KerasTensor(shape, dtype=dtype) for shape, dtype in self.specs]
        return outputs[0] if len(outputs) == 1 else outputs

    def call(self, inputs: Any) -> Any:
        """Compute the outputs of one tensor or a list of them."""
        given_inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        tensors = [tf.convert_to_tensor(tensor) for tensor in given_inputs]
        operands = type(self).operands.get(id(self))
        if operands is not None:
            given = dict(zip(self._frontier, operands, strict=True))
            outputs = run(tf, self._expanded, tensors, {}, given=given, forms=LEAN)
        else:
            weights = {index: tf.convert_to_tensor(variable) for index, variable in enumerate(self.saved_weights)}
            if self.compute_dtype == "float64":
                outputs = run(tf, self._expanded, tensors, weights, forms=EXACT, dtype=tf.float64)
            else:
                outputs = run(tf, self.program, tensors, weights)
        return outputs[0] if len(outputs) == 1 else outputs

    @cached_property
    def _expanded(self) -> Program:
        return expand_norms(self.program)

    @cached_property
    def _frontier(self) -> tuple[Ref, ...]:
        """The values that depend on weights only, and that are read by operations that depend on the inputs."""
        program = self._expanded
        depends = program.depends_on_input()
        read = [
            ref for operation, late in zip(program.operations, depends, strict=True) if late for ref in operation.inputs
        ]
        weighs = _reads_weights(program)
        return tuple(
            ref
            for ref in dict.fromkeys((*read, *program.outputs))
            if ref.kind == "weight"
            or (ref.kind == "constant" and _is_weight(program.constants[ref.place]))
            or (ref.kind == "result" and not depends[ref.place] and weighs[ref.place])
        )

    def operand_values(self) -> list[Any]:
        """Return the values of weights that the inputs meet: a variable itself, or an array computed in float64."""
        program = self._expanded
        computed = [ref for ref in self._frontier if ref.kind == "result"]
        wide = {
            ref.place: tf.cast(tf.convert_to_tensor(self.saved_weights[ref.place]), tf.float64)
            for operation, late in zip(program.operations, program.depends_on_input(), strict=True)
            for ref in operation.inputs
            if not late and ref.kind == "weight"
        }
        results = run(tf, replace(program, outputs=tuple(computed)), [], wide, dtype=tf.float64)
        arrays = dict(zip(computed, map(_narrow, results), strict=True))
        return [
            arrays[ref]
            if ref.kind == "result"
            else self.saved_weights[ref.place]
            if ref.kind == "weight"
            else program.constants[ref.place]
            for ref in self._frontier
        ]

    def end_of(self, index: int) -> End:
        """Return the end of an output, for telling a classifier from features."""
        ref, operations = self.program.outputs[index], self.program.operations
        while ref.kind == "result" and operations[ref.place].type in _RESHAPING:
            ref = operations[ref.place].inputs[0]
        if ref.kind != "result":
            return End("linear", through=ref.place if ref.kind == "input" else None)
        last = operations[ref.place]
        if last.type in _BIASED and len(last.inputs) == 2 and last.inputs[1].kind != "input":
            before = last.inputs[0]
            if before.kind == "input":
                return End("linear", through=before.place, adds=True)
            is_weight = last.inputs[1].kind != "result" or not self.program.depends_on_input()[last.inputs[1].place]
            weighs = before.kind == "result" and operations[before.place].type in _WEIGHED and is_weight
            return End("linear", weighs)
        return End("linear", True) if last.type in _WEIGHED else End(last.type.lower())

    @property
    def passes_pixels(self) -> bool:
        """Tell whether all operations only move or scale what they read."""
        late = self._late()
        return all(
            operation.type in _KEEPS_PIXELS and (operation.type not in _SCALING or self._by_constant(operation))
            for operation in late
        )

    @property
    def scales_pixels(self) -> bool:
        """Tell whether the layer scales pixels by constants, and does nothing else but moving them."""
        return self.passes_pixels and any(operation.type in _SCALING for operation in self._late())

    @property
    def use_bias(self) -> bool:
        """Tell whether a bias is added, as the attribute of Keras' layers does."""
        return any(operation.type in _BIASED for operation in self._late())

    @property
    def filters(self) -> int | None:
        """Return the number of output channels of a convolution."""
        return next((shape[-1] for shape in self.program.weights if len(shape) == 4), None)

    def _late(self) -> list[Operation]:
        depends = self.program.depends_on_input()
        return [operation for operation, late in zip(self.program.operations, depends, strict=True) if late]

    def _by_constant(self, operation: Operation) -> bool:
        weighs, depends = _reads_weights(self.program), self.program.depends_on_input()
        kinds = [
            "input" if ref.kind == "input" or (ref.kind == "result" and depends[ref.place])
            else "weight" if ref.kind == "weight" or (ref.kind == "result" and weighs[ref.place])
            else "constant"
            for ref in operation.inputs
        ]  # fmt: skip
        return kinds.count("input") == 1 and "weight" not in kinds


def _reads_weights(program: Program) -> list[bool]:
    """Return for each operation whether it reads a weight, or a large constant of floats, also through others."""
    reads: list[bool] = []
    for operation in program.operations:
        reads.append(
            any(
                ref.kind == "weight"
                or (ref.kind == "constant" and _is_weight(program.constants[ref.place]))
                or (ref.kind == "result" and reads[ref.place])
                for ref in operation.inputs
            )
        )
    return reads


def _is_weight(array: Any) -> bool:
    return bool(array.dtype.kind == "f" and array.size > _FEW)


def _narrow(tensor: Any) -> Any:
    array = np.asarray(tensor)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
