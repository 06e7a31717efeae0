from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.errors import UsageError
from xxdeploy.results import ModelOutput


def reader(end: Any, shape: tuple[int, int, int] = (6, 4, 1)) -> Any:
    keras = load_keras()
    image = keras.Input(shape)
    return keras.Model(image, end(keras.layers, keras.layers.Reshape((shape[0], -1))(image)))


@pytest.mark.parametrize(
    "end",
    [
        lambda layers, x: layers.Dense(3, "softmax")(x),
        lambda layers, x: layers.TimeDistributed(layers.Dense(3, activation="softmax"))(x),
        lambda layers, x: layers.Dense(3)(x),
    ],
)
def test_the_steps_are_probabilities(end: Any) -> None:
    prepared = prepare_model(reader(end), task="sequence")
    assert prepared.outputs == (ModelOutput("steps", 3, "sequence", (6, 3)),)
    answer = np.asarray(prepared.model(np.ones((2, 6, 4, 1), np.float32)))
    np.testing.assert_allclose(answer.sum(-1), 1, atol=1e-6)
    assert sum("add --transpose" in note for note in prepared.notes) == 1


def test_what_has_no_steps_is_refused() -> None:
    for end in (
        lambda layers, x: layers.Flatten()(x),
        lambda layers, x: layers.Dense(3, "sigmoid")(x),
        lambda layers, x: layers.Dense(1, "softmax")(x),
    ):
        with pytest.raises(UsageError) as caught:
            prepare_model(reader(end), task="sequence")
        assert caught.value.code == "not-a-sequence"


def test_rows_and_columns_are_exchanged_inside_the_model() -> None:
    model = reader(lambda layers, x: layers.Dense(3, "softmax")(x))
    prepared = prepare_model(model, task="sequence", transposed=True)
    assert (prepared.described.height, prepared.described.width) == (4, 6)
    assert not any("add --transpose" in note for note in prepared.notes)
    images = np.random.default_rng(0).uniform(size=(2, 4, 6, 1)).astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(prepared.model(images)), np.asarray(model(images.transpose(0, 2, 1, 3))), atol=1e-6
    )
