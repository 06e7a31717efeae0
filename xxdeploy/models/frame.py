"""The options, the input and the classifier that all families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

from xxdeploy.errors import UsageError
from xxdeploy.models.local_response import LocalResponseNormalization
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers

Tensor: TypeAlias = Any
"""A symbolic ``keras.KerasTensor``, ``(n, h, w, c)`` or ``(n, c)``."""


class FamilyOptions(TypedDict, total=False):
    """The arguments of each builder, the same as in ``keras.applications``; see :class:`Frame`."""

    weights: None
    input_shape: tuple[int, int, int] | None
    classes: int
    include_top: bool
    pooling: str | None


@dataclass(frozen=True, slots=True)
class Frame:
    """The input and the output of a network called ``name``, published for images of ``size`` pixels a side.

    ``weights`` is always None, for random weights: Keras has none to download. ``input_shape`` is (height, width,
    channels); None is ``(size, size, 3)``. ``include_top`` False removes the classifier of ``classes`` outputs, so the
    model returns features ``(n, h, w, c)``; ``pooling`` ``avg`` or ``max`` reduces them to ``(n, c)``.
    ``UsageError``: ``no-such-weights``, ``bad-pooling``.
    """

    name: str
    size: int
    weights: None = None
    input_shape: tuple[int, int, int] | None = None
    classes: int = 1000
    include_top: bool = True
    pooling: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            raise UsageError(
                f"there are no {self.weights} weights for {self.name}",
                hint="build it with weights=None, and call load_weights(FILE)",
                code="no-such-weights",
            )
        if self.pooling not in (None, "avg", "max"):
            raise UsageError(f"there is no pooling called {self.pooling!r}", hint="avg or max", code="bad-pooling")

    def model(self, body: Callable[[Tensor], Tensor], classifier: Callable[[Tensor, int], Tensor]) -> keras.Model:
        """Return the model image -> ``body`` -> classifier, pooled features or features.

        The image is ``(n, h, w, c)`` float32, channels last.
        """
        image = keras.Input(self.input_shape or (self.size, self.size, 3), name="image")
        x = body(image)
        if self.include_top:
            x = classifier(x, self.classes)
        elif self.pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        elif self.pooling == "max":
            x = layers.GlobalMaxPooling2D(name="max_pool")(x)
        return keras.Model(image, x, name=self.name)


def average_and_classify(x: Tensor, classes: int, *, dropout: float = 0.0) -> Tensor:
    """Global average pooling and one dense layer with softmax, the classifier of networks since 2013 (Lin et al.)."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return layers.Dense(classes, activation="softmax", name="predictions")(x)


def two_dense_and_classify(x: Tensor, classes: int) -> Tensor:
    """Two dense layers of 4096 with dropout before the softmax, the classifier of AlexNet, ZFNet and VGG."""
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
        x = layers.Dropout(0.5, name=f"{name}_dropout")(x)
    return layers.Dense(classes, activation="softmax", name="predictions")(x)


def local_response(x: Tensor, name: str) -> Tensor:
    """Normalize each value by those of the five channels around it."""
    return LocalResponseNormalization(5, name=name)(x)
