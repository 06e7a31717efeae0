from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from user_nets import shaken

from xxdeploy.convert.keras_loader import load_keras, load_tensorflow
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.convert.recurrent import MOST_STEPS
from xxdeploy.convert.user_model.keras2_operations import hard_sigmoid_of_keras2
from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession

Body = Callable[[Any, Any], Any]
LOOPS = {"Loop", "Scan", "If"}


def recurrent(body: Body, steps: int = 5, *, units: int = 5) -> Any:
    """``body(layers, sequences)`` after a convolution whose columns are the steps, (n, steps, units)."""
    keras = load_keras()
    image = keras.Input((4, steps, 3))
    x = keras.layers.Permute((2, 1, 3))(keras.layers.Conv2D(2, 3, padding="same", activation="relu")(image))
    x = keras.layers.Dense(units)(keras.layers.Reshape((steps, 8))(x))
    return shaken(keras.Model(image, body(keras.layers, x)))


def together(bodies: dict[str, Body]) -> Body:
    """Return one body with the outputs of all: a conversion takes a second."""
    return lambda layers, x: load_tensorflow().nest.flatten([body(layers, x) for body in bodies.values()])


def kinds_of(model: Any) -> list[str]:
    """Convert, optimize and compare with Keras at two batch sizes; return the kinds of the nodes."""
    names = [f"{tensor._keras_history.operation.name}_{index}" for index, tensor in enumerate(model.outputs)]
    graph, _ = optimize(onnx_from_keras(model, outputs=names))
    random = np.random.default_rng(1)
    batch = random.uniform(-1, 1, (3, *model.input_shape[1:])).astype(np.float32)
    expected = load_tensorflow().nest.flatten(model(batch, training=False))
    for optimized in (False, True):
        session = OrtSession(graph.to_bytes(), optimize=optimized)
        for count in (1, 3):
            given = session.run_all(batch[:count])
            for name, right in zip(names, expected, strict=True):
                np.testing.assert_allclose(given[name], np.asarray(right)[:count], rtol=1e-4, atol=2e-5, err_msg=name)
    kinds = [node.op_type for node in graph.proto().graph.node]
    assert not LOOPS & set(kinds)
    return kinds


LAYERS: dict[str, Body] = {
    "lstm": lambda layers, x: layers.LSTM(4)(x),
    "lstm, no bias": lambda layers, x: layers.LSTM(4, use_bias=False, unit_forget_bias=False)(x),
    "lstm, all steps": lambda layers, x: layers.LSTM(4, return_sequences=True, dropout=0.3, recurrent_dropout=0.2)(x),
    "lstm, backwards": lambda layers, x: layers.LSTM(4, go_backwards=True)(x),
    "lstm, all steps, backwards": lambda layers, x: layers.LSTM(4, go_backwards=True, return_sequences=True)(x),
    "lstm, unrolled": lambda layers, x: layers.LSTM(4, unroll=True, return_sequences=True)(x),
    "lstm, other activations": lambda layers, x: layers.LSTM(4, "relu", "hard_sigmoid")(x),
    "lstm of keras 2": lambda layers, x: layers.LSTM(4, recurrent_activation=hard_sigmoid_of_keras2)(x),
    "gru, reset after": lambda layers, x: layers.GRU(4, return_sequences=True)(x),
    "gru, reset before": lambda layers, x: layers.GRU(4, reset_after=False)(x),
    "gru, no bias": lambda layers, x: layers.GRU(4, use_bias=False)(x),
    "gru, reset before, no bias, backwards": lambda layers, x: layers.GRU(
        4, reset_after=False, use_bias=False, go_backwards=True, return_sequences=True
    )(x),
    "simple": lambda layers, x: layers.SimpleRNN(4, return_sequences=True)(x),
    "simple, relu": lambda layers, x: layers.SimpleRNN(4, "relu")(x),
    "stacked": lambda layers, x: layers.LSTM(3)(
        layers.GRU(6, return_sequences=True)(layers.LSTM(4, return_sequences=True)(x))
    ),
    "cells": lambda layers, x: layers.RNN(
        [layers.LSTMCell(4), layers.GRUCell(3)], return_sequences=True, go_backwards=True
    )(x),
    "one cell": lambda layers, x: layers.RNN(layers.SimpleRNNCell(4))(x),
    "both directions, last": lambda layers, x: layers.Bidirectional(layers.GRU(4))(x),
    "both directions, another back": lambda layers, x: layers.Bidirectional(
        layers.LSTM(4, return_sequences=True), backward_layer=layers.GRU(4, go_backwards=True, return_sequences=True)
    )(x),
    "both directions, twice": lambda layers, x: layers.Bidirectional(layers.LSTM(4, return_sequences=True))(
        layers.Bidirectional(
            layers.LSTM(3, return_sequences=True, go_backwards=True),
            backward_layer=layers.LSTM(3, return_sequences=True),
        )(x)
    ),
    "states": lambda layers, x: layers.LSTM(4, return_state=True, return_sequences=True)(x),
    "states of both directions": lambda layers, x: layers.Bidirectional(layers.GRU(4, return_state=True))(x),
}


def merged(mode: str | None) -> Body:
    return lambda layers, x: layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode=mode)(x)


LAYERS |= {f"both directions, {mode}": merged(mode) for mode in ("sum", "mul", "concat", "ave", None)}


def test_recurrent_layers_are_nodes() -> None:
    kinds = kinds_of(recurrent(together(LAYERS)))
    counts = {kind: kinds.count(kind) for kind in ("LSTM", "GRU", "RNN")}
    assert counts == {"LSTM": 27, "GRU": 11, "RNN": 3}
    assert "ReverseSequence" not in kinds


def test_states_pass_from_one_layer_to_another() -> None:
    def body(layers: Any, x: Any) -> Any:
        whole, hidden, carry = layers.LSTM(4, return_sequences=True, return_state=True)(x)
        return layers.LSTM(4)(whole, initial_state=[hidden, carry])

    assert kinds_of(recurrent(body)).count("LSTM") == 2


WRITTEN_OUT: dict[str, Body] = {
    "an activation that nodes lack": lambda layers, x: layers.LSTM(4, "gelu", return_sequences=True, go_backwards=True)(
        x
    ),
    "states of several cells": lambda layers, x: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], return_state=True)(
        x
    ),
}


def test_cells_without_a_node_are_written_out() -> None:
    assert not {"LSTM", "GRU", "RNN"} & set(kinds_of(recurrent(together(WRITTEN_OUT), steps=3)))


def test_a_cell_of_the_user_is_written_out() -> None:
    keras = load_keras()

    class Leaky(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.state_size = 5

        def call(self, inputs: Any, states: Any) -> Any:
            state = 0.9 * states[0] + inputs
            return state, [state]

    kinds_of(recurrent(lambda layers, x: layers.RNN(Leaky(), return_sequences=True)(x)))


OVER_STEPS: dict[str, Body] = {
    "dense": lambda layers, x: layers.TimeDistributed(layers.Dense(3, "relu"))(x),
    "convolution": lambda layers, x: layers.TimeDistributed(layers.Flatten())(
        layers.TimeDistributed(layers.Conv2D(2, (2, 1)))(layers.Reshape((5, 5, 1, 1))(x))
    ),
    "a model": lambda layers, x: layers.TimeDistributed(
        load_keras().Sequential([layers.Input((5,)), layers.Dense(4), layers.Dense(2)])
    )(x),
    "an lstm": lambda layers, x: layers.TimeDistributed(layers.LSTM(3))(layers.Reshape((5, 5, 1))(x)),
    "a batch norm": lambda layers, x: layers.TimeDistributed(layers.BatchNormalization())(x),
    "repeated": lambda layers, x: layers.LSTM(3, return_sequences=True)(layers.RepeatVector(4)(layers.LSTM(2)(x))),
    "attention": lambda layers, x: layers.Attention()([x, x]),
    "additive attention": lambda layers, x: layers.AdditiveAttention()([x, x]),
    "several heads": lambda layers, x: layers.MultiHeadAttention(2, 3)(x, x),
}


def test_layers_over_the_steps_convert_exactly() -> None:
    kinds = kinds_of(recurrent(together(OVER_STEPS)))
    assert sum(kinds.count(kind) for kind in ("MatMul", "Gemm", "Conv")) < 40  # not one for each step


@pytest.mark.parametrize(
    ("body", "does"),
    [
        (lambda layers, x: layers.LSTM(4)(layers.Masking()(x)), "passes a mask"),
        (lambda layers, x: layers.LSTM(4, stateful=True)(x), "stateful"),
    ],
)
def test_what_no_graph_can_do_is_refused_by_name(body: Body, does: str) -> None:
    keras = load_keras()
    image = keras.Input((4, 7, 3), batch_size=1)
    x = keras.layers.Reshape((7, 12))(image)
    with pytest.raises(UsageError, match=does) as caught:
        onnx_from_keras(keras.Model(image, body(keras.layers, x)))
    assert caught.value.code == "unsupported-layer"


def test_a_cell_without_a_node_and_with_many_steps_is_refused() -> None:
    keras = load_keras()
    image = keras.Input((MOST_STEPS + 1, 1, 3))
    x = keras.layers.Reshape((MOST_STEPS + 1, 3))(image)
    model = keras.Model(image, keras.layers.LSTM(2, activation="gelu")(x))
    with pytest.raises(ConversionError, match=f"{MOST_STEPS + 1} steps") as caught:
        onnx_from_keras(model)
    assert caught.value.code == "recurrent-steps"


def test_keras_is_itself_again_after_a_trace() -> None:
    from keras.src.backend.tensorflow import numpy

    layers = load_keras().layers
    before = layers.RNN.call, layers.TimeDistributed.call, numpy.flip
    onnx_from_keras(recurrent(LAYERS["lstm"]))
    assert before == (layers.RNN.call, layers.TimeDistributed.call, numpy.flip)
