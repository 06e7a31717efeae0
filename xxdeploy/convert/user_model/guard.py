"""Limits within which Keras builds a model from a file, and a record of the weights that it then fills in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xxdeploy.errors import ConversionError

_SLACK = 1 << 16  # states of random layers, statistics of normalization: not every variable is saved
MAX_ACTIVATION = 1 << 28
"""Numbers in one tensor of one image: 1 GiB in float32. VGG16 at 224 pixels has 3.2 million."""


@contextmanager
def no_more_weights_than(numbers: int, path: Path) -> Iterator[None]:
    """Within, Keras makes no more variables than the file has numbers for.

    A configuration of one line can ask for a layer that fills the memory; the weights of a real one are in the file.

    Raises
    ------
    ConversionError
        ``weights-mismatch``.
    """
    variable = _variable_class()
    original = variable.__init__
    left = numbers + _SLACK

    def init(self: Any, initializer: Any, shape: Any = None, *rest: Any, **options: Any) -> None:
        nonlocal left
        wanted = shape if shape is not None else getattr(initializer, "shape", ())
        left -= math.prod(wanted) if all(isinstance(size, int) for size in wanted) else 0
        if left < 0:
            raise ConversionError(
                f"the layers of {path} need more weights than the {numbers:,} numbers that it holds",
                hint="the file is damaged, or its configuration and its weights belong to different models",
                code="weights-mismatch",
            )
        original(self, initializer, shape, *rest, **options)

    variable.__init__ = init
    try:
        yield
    finally:
        variable.__init__ = original


@contextmanager
def assigned_variables() -> Iterator[set[int]]:
    """Within, collect the ``id`` of each Keras variable that is given a value."""
    variable = _variable_class()
    original = variable.assign
    assigned: set[int] = set()

    def assign(self: Any, value: Any) -> Any:
        assigned.add(id(self))
        return original(self, value)

    variable.assign = assign
    try:
        yield assigned
    finally:
        variable.assign = original


def check_activations(model: Any, path: Path) -> None:
    """Refuse a model of which one tensor of one image would fill the memory.

    Raises
    ------
    ConversionError
        ``activations-too-large``.
    """
    for layer, tensor in _tensors(model):
        sizes = [size for size in tensor.shape[1:] if size is not None]
        if math.prod(sizes) > MAX_ACTIVATION:
            raise ConversionError(
                f"the layer {layer} of {path} makes {math.prod(sizes):,} numbers of one image",
                hint="a smaller --input-size, if this is really meant",
                code="activations-too-large",
            )


def _variable_class() -> Any:
    """Return the base of ``keras.Variable``, where its methods are written; its name differs between versions."""
    import keras

    return next(kind for kind in keras.Variable.__mro__ if kind.__module__.endswith("backend.common.variables"))


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    for operation in getattr(model, "operations", ()):
        for node in operation._inbound_nodes:
            for tensor in node.output_tensors:
                yield operation.name, tensor
        yield from _tensors(operation)
