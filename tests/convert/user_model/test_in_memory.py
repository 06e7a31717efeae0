"""A model of this process is copied, proved equal, and left as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.keras_session import settings_of_export
from xxdeploy.convert.user_model.in_memory import copy_of_model, is_of_keras_2, is_of_keras_3, weights_digest
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.errors import UsageError

X = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _session() -> Iterator[None]:
    import keras

    keras.utils.set_random_seed(5)
    yield
    keras.config.set_dtype_policy("float32")


def network(library: Any, *more: Any, size: int | None = 12) -> Any:
    layers = library.layers
    model = library.Sequential(
        [
            library.Input((size, size, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            *more,
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", dtype="float32"),
        ],
        name="small",
    )
    model.layers[2].set_weights([np.random.default_rng(1).uniform(0.5, 2, 4).astype(np.float32) for _ in range(4)])
    return model


def state_of(model: Any) -> tuple[Any, ...]:
    """All that an export could change: the values, types, names and use of the weights, and the compilation."""
    return (
        [(w.path, w.dtype, w.trainable, np.asarray(w).tobytes()) for w in model.variables],
        [(layer.name, layer.trainable, layer.dtype_policy.name) for layer in model._flatten_layers()],
        model.compiled and (model.loss, model.optimizer, int(model.optimizer.iterations.numpy())),
        [tensor.shape for tensor in model.inputs or ()] if hasattr(model, "inputs") else None,
    )


def answers(model: Any, x: np.ndarray[Any, Any] = X) -> np.ndarray[Any, Any]:
    return np.asarray(model(x, training=False), np.float32)


def test_the_model_stays_as_it_is_and_trains_on() -> None:
    import keras

    model = network(keras)
    model.layers[1].trainable = False
    model.compile("adam", lambda truth, found: keras.ops.mean((truth - found) ** 2), metrics=["accuracy"])
    model.fit(X, np.eye(3), verbose=0)
    before, out = state_of(model), answers(model)
    with settings_of_export():
        loaded = copy_of_model(model)
        prepare_model(loaded.model, output_layer="conv2d")
    assert loaded.notes == ()
    assert state_of(model) == before
    assert np.array_equal(answers(model), out)
    assert np.allclose(answers(loaded.model), out, atol=1e-6)
    assert not set(map(id, loaded.model._flatten_layers())) & set(map(id, model._flatten_layers()))
    assert weights_digest(loaded.model) == weights_digest(model)
    model.fit(X, np.eye(3), verbose=0)
    assert not np.array_equal(answers(model), out)
    assert np.allclose(answers(loaded.model), out, atol=1e-6)  # a copy does not follow


def test_a_mixed_model_is_copied_to_float32_under_the_users_policy() -> None:
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    model = network(keras)
    before = state_of(model)
    with settings_of_export():
        loaded = copy_of_model(model)
    assert keras.config.dtype_policy().name == "mixed_float16"
    assert state_of(model) == before
    assert {layer.compute_dtype for layer in loaded.model._flatten_layers()} == {"float32"}
    assert "float16" in loaded.notes[0]
    assert np.allclose(answers(loaded.model), answers(model), atol=2e-3)


def test_an_input_of_bytes_is_copied_to_float32() -> None:
    import keras

    image = keras.Input((8, 8, 3), dtype="uint8")
    model = keras.Model(image, keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1 / 255)(image)))
    loaded = copy_of_model(model)
    assert loaded.model.inputs[0].dtype == "float32"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))
    np.testing.assert_allclose(loaded.model(pixels.astype(np.float32)), model(pixels.astype(np.uint8)), atol=1e-6)


def test_a_lambda_keeps_the_variables_around_its_function() -> None:
    import keras

    factor = 3.0
    model = network(keras, keras.layers.Lambda(lambda x: x * factor))
    loaded = copy_of_model(model)
    assert loaded.notes == ()
    assert np.allclose(answers(loaded.model), answers(model), atol=1e-6)


def made_custom() -> dict[str, Callable[[], Any]]:
    """Models that have no copy by their configuration."""
    import keras

    class Factor(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, factor: Any, **others: Any) -> None:
            super().__init__(**others)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * self.factor

    class Forgets(Factor):
        def __init__(self, factor: float = 1.0, **others: Any) -> None:
            super().__init__(factor, **others)

        def get_config(self) -> dict[str, Any]:
            return dict(keras.layers.Layer.get_config(keras.layers.Identity()))

    class Subclass(keras.Model):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__(name="subclass")
            self.inner = network(keras)
            self.end = keras.layers.Dense(width)

        def call(self, x: Any, training: bool = False) -> Any:
            return self.end(self.inner(x, training=training))

    def subclass() -> Any:
        model = Subclass(3)
        model(X)
        return model

    return {
        "no get_config": lambda: network(keras, Factor(np.array([2.0]))),
        "get_config forgets": lambda: network(keras, Forgets(2.0)),
        "subclass": subclass,
        "lambda activation": lambda: network(keras, keras.layers.Conv2D(4, 1, activation=lambda x: x * x)),
    }


@pytest.mark.parametrize("kind", ["no get_config", "get_config forgets", "subclass", "lambda activation"])
def test_what_has_no_copy_is_exported_itself(kind: str) -> None:
    model = made_custom()[kind]()
    before = state_of(model)
    out = answers(model)
    loaded = copy_of_model(model)
    assert "cannot be copied" in loaded.notes[0]
    assert np.allclose(answers(loaded.model), out, atol=1e-6)
    assert prepare_model(loaded.model).model.outputs[0].shape == (None, 3)
    assert state_of(model) == before


def test_a_copy_that_gives_other_outputs_is_never_taken() -> None:
    """Under mixed precision the model itself cannot be exported, so its faulty copy is an error."""
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    model = made_custom()["get_config forgets"]()
    with settings_of_export(), pytest.raises(UsageError, match="gives other outputs") as caught:
        copy_of_model(model)
    assert caught.value.code == "model-not-copied"
    assert "get_config" in caught.value.hint


def test_sizes_and_batches() -> None:
    import keras

    model = network(keras, size=None)
    assert copy_of_model(model, input_size=20).model.inputs[0].shape == (None, 20, 20, 3)
    image = keras.Input((12, 12, 3), batch_size=3)
    fixed = keras.Model(image, network(keras)(image), name="fixed")
    loaded = copy_of_model(fixed)
    assert loaded.model.inputs[0].shape == (None, 12, 12, 3)
    assert "any batch size" in loaded.notes[0]


def test_a_model_without_a_shape_is_refused() -> None:
    import keras

    model = keras.Sequential([keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(2)], name="bare")
    with pytest.raises(UsageError, match="not built") as caught:
        copy_of_model(model)
    assert caught.value.code == "model-not-built"
    model(X)  # the hint
    assert np.allclose(answers(copy_of_model(model).model), answers(model), atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_model_of_tf_keras(mixed: bool) -> None:
    library = pytest.importorskip("tf_keras")
    if mixed:
        library.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = network(library)
    finally:
        library.mixed_precision.set_global_policy("float32")
    model.compile("adam", "mse")
    names = [weight.name for weight in model.weights]
    loaded = copy_of_model(model)
    assert (is_of_keras_2(model), is_of_keras_3(model), is_of_keras_2(loaded.model)) == (True, False, False)
    assert np.allclose(answers(loaded.model), answers(model), atol=2e-3 if mixed else 1e-6)
    assert [weight.name for weight in model.weights] == names
    assert loaded.notes[-1] == "the model is one of tf_keras: it was read by Keras 3 and compared"


def test_a_layer_of_ones_own_in_tf_keras_has_no_copy() -> None:
    library = pytest.importorskip("tf_keras")

    class Twice(library.layers.Layer):  # type: ignore[misc,name-defined]
        def call(self, x: Any) -> Any:
            return 2 * x

    with pytest.raises(UsageError) as caught:
        copy_of_model(network(library, Twice()))
    assert "Twice" in caught.value.message
