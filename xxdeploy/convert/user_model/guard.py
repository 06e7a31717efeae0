"""Patches of Keras while it builds a model from a file: they limit and record weights, and mend a fault of reading."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from xxdeploy.convert.keras_loader import replaced
from xxdeploy.errors import ConversionError

_SLACK = 1 << 16  # states of random layers, statistics of normalization: not every variable is saved
MAX_ACTIVATION = 1 << 28
"""Most numbers in one tensor for one image: 1 GiB in float32. VGG16 at 224 pixels has 3.2 million."""


@contextmanager
def no_more_weights_than(numbers: int, path: Path) -> Iterator[None]:
    """Within this context Keras creates no more weights than the file has numbers.

    One line of a hostile configuration can ask for a layer that fills the memory; a genuine file contains its weights.

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
                f"the layers in {path} need more weights than the {numbers:,} numbers in the file",
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
    """Within this context, collect the ``id`` of each Keras variable that receives a value."""
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


@contextmanager
def readable_adaptive_pools() -> Iterator[None]:
    """Within this context the operations of adaptive pooling take their size as a list, as Keras 3 writes it."""
    from keras.src.ops import nn

    with ExitStack() as patches:
        for kind in (getattr(nn, name, None) for name in ("AdaptiveAveragePool", "AdaptiveMaxPool")):
            if kind is not None:  # older versions lack them
                patches.enter_context(replaced(kind, "__init__", _with_tuple(kind.__init__)))
        yield


def _with_tuple(original: Any) -> Any:
    def init(self: Any, output_size: Any, data_format: str | None = None, *, name: str | None = None) -> None:
        size = tuple(output_size) if isinstance(output_size, list) else output_size
        original(self, size, data_format, name=name)

    return init


def check_activations(model: Any, path: Path) -> None:
    """Refuse a model with a tensor that would fill the memory for one image.

    Raises
    ------
    ConversionError
        ``activations-too-large``.
    """
    for layer, tensor in _tensors(model):
        sizes = [size for size in tensor.shape[1:] if size is not None]
        if math.prod(sizes) > MAX_ACTIVATION:
            raise ConversionError(
                f"the layer {layer} of {path} has {math.prod(sizes):,} outputs for one image, over {MAX_ACTIVATION:,}",
                hint="choose a smaller --input-size, or check the layer",
                code="activations-too-large",
            )


def _variable_class() -> Any:
    """Return the base class of ``keras.Variable`` that defines its methods; its name differs between versions."""
    import keras

    return next(kind for kind in keras.Variable.__mro__ if kind.__module__.endswith("backend.common.variables"))


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    for operation in getattr(model, "operations", ()):
        for node in operation._inbound_nodes:
            for tensor in node.output_tensors:
                yield operation.name, tensor
        yield from _tensors(operation)
