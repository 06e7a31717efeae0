"""Steps of random models: the recipes of ``keras_surface``, mixed dtypes, and layers that are called twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras_surface
from keras_recipes import SHAPE, Recipe
from keras_surface import LAYERS, OPERATIONS, REFUSED, activation

_MIXES_IMAGES = frozenset({"ops.ravel", "ops.vstack", "ops.hstack", "ops.dstack"})
"""Their first axis is not that of the images, so no layer can follow."""
RECIPES: dict[str, Recipe] = {
    name: recipe
    for name, recipe in {
        **{f"layers.{name}": recipe for name, recipe in LAYERS.items()},
        **{f"ops.{name}": recipe for name, recipe in OPERATIONS.items()},
        **{f"activations.{name}": activation(name) for name in keras_surface.ACTIVATIONS},
    }.items()
    if name not in REFUSED | _MIXES_IMAGES
}


def surface(draw: Any, x: Any) -> Any:
    """Append a random recipe; one that Keras cannot build here is left out.

    The recipes need four channels, and some need the size of ``keras_surface.SHAPE``.
    """
    recipe = RECIPES[draw.pick(*RECIPES)]
    four = draw.layers.Conv2D(4, 1)(x)
    if draw.chance(0.5):
        four = draw.ops.tanh(four)
    made = _built(draw, recipe, four)
    if made is None:
        made = _built(draw, recipe, draw.layers.Resizing(*SHAPE[:2])(four))
    return x if made is None else made


def _built(draw: Any, recipe: Recipe, x: Any) -> Any:
    try:
        return as_picture(draw, recipe(draw, x))
    except Exception:  # noqa: BLE001 - Keras refuses an operand with errors of many classes
        return None


def as_picture(draw: Any, x: Any) -> Any:
    """Return a tensor of any rank and dtype as ``(n, height, width, channels)`` float; None if it has no such form."""
    if len(x.shape) < 2 or x.shape[0] is not None or None in x.shape[1:]:
        return None
    if draw.keras.backend.standardize_dtype(x.dtype) != "float32":
        x = draw.ops.cast(x, "float32")
    rest = tuple(x.shape[1:])
    if len(rest) == 3:
        return x
    if len(rest) > 3:
        return draw.layers.Reshape((rest[0], -1, rest[-1]))(x)
    return draw.layers.Reshape(
        (*(1,) * (3 - len(rest)), *rest) if draw.chance(0.5) else (*rest, *(1,) * (3 - len(rest)))
    )(x)


def dtypes(draw: Any, x: Any) -> Any:
    """Append a detour over int32, uint8, bool or float16."""
    ops, channels = draw.ops, x.shape[-1]
    value = float(draw.rng.uniform(0.1, 1))

    def integers(t: Any) -> Any:
        return ops.cast(t * 8.0, "int32")

    forms: tuple[Callable[[], Any], ...] = (
        lambda: ops.cast(integers(x), "float32") * 0.125,
        lambda: ops.cast((integers(x) + 3) * 2 - 1, "float32"),
        lambda: ops.cast(integers(ops.abs(x)) // 3, "float32"),
        lambda: ops.cast(ops.maximum(integers(x), 2), "float32"),
        lambda: ops.cast(ops.abs(integers(x)) % 5, "float32"),
        lambda: ops.cast(ops.cast(ops.clip(x * 40.0, 0, 255), "uint8"), "float32"),
        lambda: ops.cast(x > value, "float32") * x,
        lambda: ops.where(ops.logical_and(x > -value, ops.logical_not(x > value)), x, value),
        lambda: ops.where(ops.cast(integers(x), "bool"), x, -x),
        lambda: ops.one_hot(ops.argmax(x, axis=-1), channels) * x,
        lambda: x + ops.cast(ops.expand_dims(ops.argmax(x, axis=-1), -1), x.dtype),
        lambda: ops.cast(ops.cast(x, "float16"), "float32"),
        lambda: ops.cast(ops.cast(x, "float16") * 2, "float32"),
        lambda: x * ops.cast(ops.any(x > value, axis=-1, keepdims=True), x.dtype),
        lambda: x + ops.cast(ops.sum(ops.cast(x > 0, "int32"), axis=(1, 2), keepdims=True), x.dtype) * 0.01,
    )
    return ops.cast(draw.pick(*forms)(), "float32")


def shared(draw: Any, x: Any) -> Any:
    """Call one layer, or one inner model, twice."""
    layers, channels = draw.layers, x.shape[-1]
    inside = draw.keras.Input(x.shape[1:])
    deep = layers.DepthwiseConv2D(3, padding="same")(inside)
    same = draw.pick(
        layers.Conv2D(channels, 3, padding="same", activation=draw.pick(None, "relu")),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.BatchNormalization(),
        layers.Dense(channels, activation="tanh"),
        layers.PReLU(shared_axes=[1, 2]),
        draw.keras.Model(inside, layers.ReLU(4.0)(layers.BatchNormalization()(deep)), name=draw.name("twice")),
        draw.keras.Sequential([layers.Conv2D(channels, 1), layers.LayerNormalization()], name=draw.name("chain")),
    )
    first = same(x)
    return draw.pick(
        lambda: same(first),
        lambda: layers.Concatenate()([first, same(draw.ops.flip(x, axis=2))]),
        lambda: layers.Subtract()([first, same(x * 0.5)]),
        lambda: layers.Add()([same(first), first]),
    )()
