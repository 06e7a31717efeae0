"""What a model does to the pixels before its first weights: scaling that was saved inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xxdeploy.convert.layers import calls, graph, is_model
from xxdeploy.convert.user_model.quarantine.known import AUGMENTATIONS, NOISES

if TYPE_CHECKING:
    import keras

_SCALING_LAYERS = frozenset({"Rescaling", "Normalization"})
_SCALING_OPERATIONS = frozenset({"Add", "Divide", "Multiply", "Subtract", "TrueDivide", "Power"})
_NEUTRAL_LAYERS = (
    AUGMENTATIONS
    | NOISES
    | {"CenterCrop", "Concatenate", "Cropping2D", "Identity", "Permute", "Pipeline", "Reshape", "Resizing"}
    | {"ZeroPadding2D"}
)
_NEUTRAL_OPERATIONS = frozenset(
    {"Cast", "Clip", "Concatenate", "ExpandDims", "Flip", "GetItem", "Pad", "Reshape", "Resize", "Split", "Squeeze"}
    | {"Stack", "Transpose"}
)


def scaling_inside(model: keras.Model) -> tuple[str, ...]:
    """Return the names of what scales the pixels between the input and the first weights.

    ``Rescaling``, ``Normalization``, arithmetic with constants (what ``preprocess_input`` becomes when it is called
    on an input); also inside a nested model. Empty: the model takes numbers that were scaled outside.
    """
    found: list[str] = []
    _walk(model, {id(tensor) for tensor in graph(model).inputs}, found)
    return tuple(dict.fromkeys(found))


def augmentations_inside(model: keras.Model) -> tuple[str, ...]:
    """Return the names of layers that change pictures in training and do nothing in inference."""
    return tuple(layer.name for layer in model._flatten_layers() if type(layer).__name__ in AUGMENTATIONS)


def resized_to(model: keras.Model) -> tuple[int, int] | None:
    """Return height and width of a ``Resizing`` layer that reads the input, None without one."""
    for call in calls(model):
        if type(call.operation).__name__ == "Resizing":
            return int(call.operation.height), int(call.operation.width)
    return None


def _walk(model: Any, pixels: set[int], found: list[str]) -> bool:
    """Follow ``pixels`` (ids of tensors that hold pixels) through ``model``; tell whether its outputs hold them."""
    for call in calls(model):
        tensors = call.input_tensors
        if not tensors or not all(id(tensor) in pixels for tensor in tensors):
            continue
        operation = call.operation
        if is_model(operation):
            through = _walk(operation, {id(tensor) for tensor in graph(operation).inputs}, found)
        else:
            through = _passes_pixels(operation)
            if _scales(operation) and len(tensors) == 1:
                found.append(operation.name)
        if through:
            pixels.update(id(tensor) for tensor in call.output_tensors)
    return all(id(tensor) in pixels for tensor in graph(model).outputs)


def _is_operation(operation: Any) -> bool:
    return ".ops." in type(operation).__module__


def _scales(operation: Any) -> bool:
    return type(operation).__name__ in (_SCALING_OPERATIONS if _is_operation(operation) else _SCALING_LAYERS)


def _passes_pixels(operation: Any) -> bool:
    return _scales(operation) or type(operation).__name__ in (
        _NEUTRAL_OPERATIONS if _is_operation(operation) else _NEUTRAL_LAYERS
    )
