"""Recurrent layers as ONNX's ``LSTM``, ``GRU`` and ``RNN`` nodes, and layers over the steps without a loop.

Keras runs a recurrent layer as a loop over the steps, which tf2onnx would copy. In a trace the layer is one operation
instead, which ``write_node`` turns into the ONNX node. Its weights are placeholders in ONNX's layout, so the traced
graph stays without weights (Hochreiter & Schmidhuber 1997, Long short-term memory; Cho et al. 2014, arXiv:1406.1078).

- Keras orders the gates of an LSTM input, forget, cell, output; ONNX input, output, forget, cell. A GRU has update,
  reset, new in both. ``reset_after`` is ONNX's ``linear_before_reset``.
- ``go_backwards`` reads the steps in reverse, and returns them in the order in which they were read. ONNX returns
  them in the order of the input, so they are reversed once more, unless ``Bidirectional`` reverses them back.
- A cell that ONNX has no node for (another activation, a class of the user) is written out step by step, for
  ``MOST_STEPS`` steps at most.
- ``TimeDistributed`` calls its layer once, with the steps as part of the batch. Keras calls it for each step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_loader import replaced
from xxdeploy.convert.user_model.keras2_operations import hard_sigmoid_of_keras2
from xxdeploy.convert.user_model.layer_options import keeps_state, unsupported
from xxdeploy.errors import ConversionError

OPERATION = "PyFunc"
"""The kind of TensorFlow operation that stands for a node: it takes and returns any tensors, and is never run."""
MOST_STEPS = 512
"""Steps of a cell that is written out, about ten nodes for each."""
_MARK = "xxdeploy:"
_LSTM_ORDER, _GRU_ORDER, _RNN_ORDER = [0, 3, 1, 2], [0, 1, 2], [0]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OnnxCell:
    """The ONNX node of a Keras cell in one direction.

    ``kind`` is ``LSTM``, ``GRU`` or ``RNN``; ``attributes`` are the node's without its direction. float32 ``arrays``:
    weights (1, gates * units, inputs), recurrent weights (1, gates * units, units), biases (1, 2 * gates * units).
    """

    kind: str
    attributes: Mapping[str, Any]
    arrays: tuple[Array, Array, Array]


def onnx_cells(keras: Any, model: Any) -> dict[int, OnnxCell]:
    """Map the ``id`` of each recurrent cell inside ``model`` to its ONNX node; cells without one are left out.

    Raises
    ------
    UsageError
        ``unsupported-layer``: a layer keeps its state between calls, or masks steps.
    """
    cells = {}
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise keeps_state(layer.name, type(layer).__name__)
        if isinstance(layer, keras.layers.Masking):
            raise unsupported(layer.name, "Masking", "passes a mask to the layers after it")
        if (cell := _onnx_cell(keras, layer)) is not None:
            cells[id(layer)] = cell
    return cells


def _onnx_cell(keras: Any, cell: Any) -> OnnxCell | None:
    layers, kind = keras.layers, type(cell)
    if kind not in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell) or cell.compute_dtype != "float32":
        return None
    known = _activations(keras)
    gate = getattr(cell, "recurrent_activation", None)
    if cell.activation not in known or (gate is not None and gate not in known):
        return None
    attributes: dict[str, Any] = {"hidden_size": cell.units}
    if kind is layers.LSTMCell:
        name, order, used = "LSTM", _LSTM_ORDER, [gate, cell.activation, cell.activation]
    elif kind is layers.GRUCell:
        name, order, used = "GRU", _GRU_ORDER, [gate, cell.activation]
        attributes["linear_before_reset"] = int(cell.reset_after)
    else:
        name, order, used = "RNN", _RNN_ORDER, [cell.activation]
    names, alphas, betas = zip(*(known[activation] for activation in used), strict=True)
    attributes["activations"] = list(names)
    for key, values in (("activation_alpha", alphas), ("activation_beta", betas)):
        if given := [value for value in values if value is not None]:  # one for each activation that takes it
            attributes[key] = given
    return OnnxCell(name, attributes, _weights(cell, order))


def _activations(keras: Any) -> dict[Any, tuple[str, float | None, float | None]]:
    """Map Keras' functions to ONNX's name with alpha and beta, of those that every engine has in a recurrent node."""
    functions = keras.activations
    return {
        functions.tanh: ("Tanh", None, None),
        functions.sigmoid: ("Sigmoid", None, None),
        functions.relu: ("Relu", None, None),
        functions.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
        hard_sigmoid_of_keras2: ("HardSigmoid", 0.2, 0.5),
    }


def _weights(cell: Any, order: Sequence[int]) -> tuple[Array, Array, Array]:
    def gates(variable: Any) -> Array:
        parts = np.split(np.asarray(variable, np.float32), len(order), axis=-1)
        return np.concatenate([parts[index] for index in order], axis=-1)

    zeros = np.zeros(len(order) * cell.units, np.float32)
    bias = gates(cell.bias) if cell.use_bias else zeros
    both = bias if bias.ndim == 2 else np.stack([bias, zeros])  # a GRU with reset_after has two
    kernel, recurrent = (
        np.ascontiguousarray(gates(variable).T)[None] for variable in (cell.kernel, cell.recurrent_kernel)
    )
    return kernel, recurrent, both.reshape(1, -1)


@contextmanager
def recurrent_as_nodes(keras: Any, tf: Any, cells: Mapping[int, tuple[OnnxCell, tuple[Any, ...]]]) -> Iterator[None]:
    """Within this context recurrent layers and ``TimeDistributed`` are traced without loops.

    ``cells`` maps the ``id`` of a cell to its node and its placeholders: weights, recurrent weights, biases.
    """
    from keras.src.backend.tensorflow import numpy

    layers = keras.layers
    order = _Order(numpy.flip)
    changed = (
        (layers.RNN, "call", _lean_call(keras, tf, cells, order, layers.RNN.call)),
        (layers.RNN, "_maybe_config_dropout_masks", lambda *_: None),  # of training; they draw random numbers
        (layers.TimeDistributed, "call", _all_steps_at_once(tf, layers.TimeDistributed.call)),
        (numpy, "flip", order.flip),
    )
    with ExitStack() as stack:
        for owner, name, value in changed:
            stack.enter_context(replaced(owner, name, value))
        yield


class _Order:
    """Knows the tensors that were reversed over the steps, so that reversing them back costs nothing."""

    def __init__(self, flip: Callable[..., Any]) -> None:
        self._flip = flip
        self._reversed: dict[int, tuple[Any, Any]] = {}  # with the tensor, which keeps its id unique

    def reverse(self, sequences: Any) -> Any:
        """Return a tensor (batch, steps, ...) with its steps in reverse."""
        result = sequences[:, ::-1]
        self._reversed[id(result)] = result, sequences
        return result

    def flip(self, x: Any, axis: Any = None) -> Any:
        """Do as ``keras.ops.flip``."""
        if axis != 1 or len(x.shape) != 3:
            return self._flip(x, axis=axis)
        known = self._reversed.get(id(x))
        return self.reverse(x) if known is None else known[1]


def _lean_call(
    keras: Any, tf: Any, cells: Mapping[int, tuple[OnnxCell, tuple[Any, ...]]], order: _Order, original: Any
) -> Any:
    def call(self: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False) -> Any:
        stacked = isinstance(self.cell, keras.layers.StackedRNNCells)
        inner = self.cell.cells if stacked else [self.cell]
        given = None if initial_state is None else tf.nest.flatten(initial_state)
        if (
            mask is not None
            or any(id(cell) not in cells for cell in inner)
            or (stacked and (given or self.return_state))
        ):
            steps = sequences.shape[1]
            if steps is None or steps > MOST_STEPS:
                raise ConversionError(
                    f"{self.name} has a cell without an ONNX node, so its steps are written out, and it has "
                    f"{'an unknown number of' if steps is None else steps} steps: {MOST_STEPS} is the limit",
                    hint="use LSTM, GRU or SimpleRNN with their usual activations, or fewer steps",
                    code="recurrent-steps",
                )
            with replaced(self, "unroll", True):
                return original(self, sequences, initial_state=initial_state, mask=mask, training=training)
        steps_first = tf.transpose(sequences, (1, 0, 2))
        for cell in inner:
            node, weights = cells[id(cell)]
            outputs = _node(tf, node, steps_first, weights, given, reverse=self.go_backwards)
            steps_first = tf.squeeze(outputs[0], 1)
        states = [tf.squeeze(state, 0) for state in outputs[1:]]
        output = states[0]
        if self.return_sequences:
            output = tf.transpose(steps_first, (1, 0, 2))
            output = order.reverse(output) if self.go_backwards else output
        return (output, *states) if self.return_state else output

    return call


def _node(
    tf: Any, node: OnnxCell, steps_first: Any, weights: Sequence[Any], states: Sequence[Any] | None, *, reverse: bool
) -> list[Any]:
    """Trace one node: Y (steps, 1, batch, units) and the last states (1, batch, units) each."""
    count = 2 if node.kind == "LSTM" else 1
    attributes = {**node.attributes, "direction": "reverse" if reverse else "forward"}
    tensors = [steps_first, *weights, *(tf.expand_dims(state, 0) for state in states or ())]
    token = _MARK + json.dumps([node.kind, attributes], sort_keys=True)
    outputs = tf.raw_ops.PyFunc(input=tensors, token=token, Tout=[tf.float32] * (1 + count), name=node.kind)
    units = node.attributes["hidden_size"]
    shapes = [(steps_first.shape[0], 1, None, units), *((1, None, units),) * count]
    return [tf.ensure_shape(output, shape) for output, shape in zip(outputs, shapes, strict=True)]


def write_node(context: Any, node: Any, name: str, _: Any) -> None:
    """Replace a traced operation by the ONNX node that it stands for, in tf2onnx's graph."""
    token = node.get_attr_value("token")
    text = token.decode() if isinstance(token, bytes) else str(token)
    if not text.startswith(_MARK):
        raise ValueError(f"{name} calls a Python function, which has no ONNX operator")
    kind, attributes = json.loads(text.removeprefix(_MARK))
    inputs, outputs = list(node.input), list(node.output)
    if len(inputs) > 4:
        inputs.insert(4, "")  # the lengths of the sequences: all steps count
    shapes, dtypes = node.output_shapes, node.output_dtypes
    context.remove_node(name)
    context.make_node(kind, inputs, attr=attributes, outputs=outputs, name=name, shapes=shapes, dtypes=dtypes)


def _all_steps_at_once(tf: Any, original: Any) -> Any:
    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        steps, *shape = inputs.shape[1:]
        if mask is not None or None in (steps, *shape):
            return original(self, inputs, training=training, mask=mask)
        given = {"training": training} if self.layer._call_has_training_arg else {}
        result = self.layer.call(tf.reshape(inputs, (-1, *shape)), **given)
        return tf.reshape(result, (-1, steps, *result.shape[1:]))

    return call
