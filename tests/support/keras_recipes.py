"""Recipes for models of one Keras layer or operation; ``keras_surface`` uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xxdeploy.convert.keras_loader import load_keras

SHAPE = (9, 8, 4)


class Keras(NamedTuple):
    """The names that a recipe uses."""

    layers: Any
    ops: Any
    keras: Any


Recipe = Callable[[Keras, Any], Any]


def keras_names() -> Keras:
    keras = load_keras()
    return Keras(keras.layers, keras.ops, keras)


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def vector(size: int = 4, low: float = 0.5, high: float = 2.0) -> Any:
    return np.random.default_rng(size).uniform(low, high, size).astype(np.float32)


def rows(k: Keras, x: Any) -> Any:
    """Return the picture as a sequence (n, height, width * channels)."""
    return k.layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]))(x)


def cube(k: Keras, x: Any) -> Any:
    """Return the picture as a volume (n, height, width, channels, 1)."""
    return k.layers.Reshape((*x.shape[1:], 1))(x)


def square(k: Keras, x: Any) -> Any:
    """Return well-conditioned matrices (n, 4, 4) of the picture."""
    flat = k.layers.Reshape((x.shape[1] * x.shape[2], x.shape[3]))(x)
    return k.ops.matmul(k.ops.transpose(flat, (0, 2, 1)), flat) + 40.0 * np.eye(4, dtype=np.float32)


def positive(k: Keras, x: Any) -> Any:
    return k.ops.abs(x) + 0.1


def small(k: Keras, x: Any) -> Any:
    return k.ops.tanh(x) * 0.9


def integer(k: Keras, x: Any) -> Any:
    return k.ops.cast(k.ops.abs(x) * 7.0, "int32")


def plain_recipes(*names: str, of: Callable[[Keras, Any], Any] | None = None, last: bool = False) -> dict[str, Recipe]:
    """Recipes of operations with one operand."""

    def recipe(name: str) -> Recipe:
        def call(k: Keras, x: Any) -> Any:
            operand = x if of is None else of(k, x)
            return getattr(k.ops, name)(operand, axis=-1) if last else getattr(k.ops, name)(operand)

        return call

    return {name: recipe(name) for name in names}


def two_recipes(*names: str, of: Callable[[Keras, Any], Any] | None = None) -> dict[str, Recipe]:
    """Recipes of operations with two operands: the picture, and itself turned by a row and shifted."""

    def recipe(name: str) -> Recipe:
        def call(k: Keras, x: Any) -> Any:
            other = k.ops.flip(x, axis=1) + 0.25
            return getattr(k.ops, name)(*((x, other) if of is None else (of(k, x), of(k, other))))

        return call

    return {name: recipe(name) for name in names}


def made(*names: str, on: Callable[[Keras, Any], Any] | None = None, **options: Any) -> dict[str, Recipe]:
    """Recipes of layers with one input and these options."""

    def recipe(name: str) -> Recipe:
        return lambda k, x: getattr(k.layers, name)(**options)(x if on is None else on(k, x))

    return {name: recipe(name) for name in names}


def call_recipe(home: str, name: str, *rest: Any, of: Callable[[Keras, Any], Any], **options: Any) -> Recipe:
    """Return the recipe of ``keras.layers.NAME(**options)(...)`` or ``keras.ops.NAME(..., *rest)``."""

    def recipe(k: Keras, x: Any) -> Any:
        function = getattr(k.ops, name) if home == "ops" else getattr(k.layers, name)(**options)
        return function(of(k, x), *rest)

    return recipe


def colors(_: Keras, x: Any) -> Any:
    return x[..., :3]
