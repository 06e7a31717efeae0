"""The output of a model that makes pictures or masks: its shape, and the meaning of its values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xxdeploy.convert.keras_graph import graph, is_model, source
from xxdeploy.convert.user_model.describe import UserModel
from xxdeploy.errors import UsageError
from xxdeploy.results import ModelOutput
from xxdeploy.runtime.bundle.tasks import BINARY, MASK_CLASSES, PICTURE_CHANNELS

RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""The ranges of pixels that a last activation can say; any other is asked for."""
_BOUNDED = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
}
_BY_CLASS = {"Sigmoid": "sigmoid", "HardSigmoid": "hard_sigmoid", "Tanh": "tanh", "HardTanh": "hard_tanh"}
_BY_CLASS |= {"Softmax": "softmax", "Softsign": "softsign"}
_PASSING = frozenset(
    {
        "AveragePooling2D",
        "Cast",
        "Cropping2D",
        "DepthToSpace",
        "Dropout",
        "ExpandDims",
        "Flatten",
        "GetItem",
        "Identity",
    }
    | {"MaxPooling2D", "Permute", "Reshape", "Squeeze", "StopGradient", "Transpose"}
)
"""Layers and operations that move values or average them: none leaves the range of the input."""
_AVERAGING = frozenset({"area", "bilinear", "nearest"})


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What the options say about the output of ``--task image``.

    ``output_range`` holds the values of black and white; ``is_mask`` is True if the options are about classes, False if
    they are about pixels, None if they leave it open.
    """

    output_range: tuple[float, float] | None = None
    is_mask: bool | None = None


ANY_IMAGE = ImageRequest()


def image_output(
    tensor: Any, described: UserModel, asked: ImageRequest, name: str = ""
) -> tuple[Any, ModelOutput, tuple[str, ...]]:
    """Return the output as ``(h, w, channels)``, its description and notes for the user.

    A softmax, or the options, say that the channels are scores of classes; logits get a softmax or sigmoid. Pixels have
    the range that the options or the last activation say.

    Parameters
    ----------
    tensor : KerasTensor
        An output of the model that ``described`` describes.
    asked : ImageRequest
        From the options.
    name : str
        The layer of the output, for messages.

    Raises
    ------
    UsageError
        ``image-output``: the shape is that of no picture or mask; ``output-range-unknown``.
    """
    kind, values = _meaning(tensor)
    tensor, shape = _as_picture(tensor, kind, described, name)
    channels = shape[-1]
    if _is_mask(asked, kind, channels, color=described.channels > 1):
        return _mask(tensor, kind, shape, asked, name)
    if channels not in PICTURE_CHANNELS:
        raise UsageError(
            f"the output {name} has {channels} channels, and a picture has 1 or 3",
            hint="if each channel is the score of a class, add --output-range classes; export other numbers with "
            "--task values",
            code="image-output",
        )
    known = values if values in RANGES else None
    pixels = asked.output_range or known
    if pixels is None:
        likely = "0..1, or --output-range=-1..1, or --output-range 0..255, as the pictures of the training"
        mask = "; if each channel is the score of a class, --output-range=classes"
        raise UsageError(
            f"the values of black and white in the output {name} are unknown: no last activation says them",
            hint=f"add --output-range {likely}{mask}",
            code="output-range-unknown",
        )
    notes = [f"{name} is exported as a picture with values {pixels[0]:g} (black) to {pixels[1]:g} (white)"]
    if asked.output_range is None and kind == "sigmoid":
        notes[0] += " (if its channels are scores of classes, add --output-range classes)"
    if known is not None and known != pixels:
        notes.append(f"warning: the last activation of {name} gives {known[0]:g} to {known[1]:g}")
    return tensor, ModelOutput("picture", None, "image", shape, pixels), tuple(notes)


def _is_mask(asked: ImageRequest, kind: str, channels: int, *, color: bool) -> bool:
    """Return whether the channels are scores of classes.

    One sigmoid of a color picture is the probability of an object; of a gray picture it may be a gray picture. Three
    sigmoids are a color picture; any other number is of no picture.
    """
    if asked.is_mask is not None:
        return asked.is_mask
    if channels == 1:
        return kind == "sigmoid" and color
    return kind == "softmax" or channels not in PICTURE_CHANNELS


def _mask(
    tensor: Any, kind: str, shape: tuple[int, ...], asked: ImageRequest, name: str
) -> tuple[Any, ModelOutput, tuple[str, ...]]:
    import keras

    classes = max(BINARY, shape[-1])
    if classes > MASK_CLASSES:
        raise UsageError(
            f"the output {name} has {classes} classes, and a mask has at most {MASK_CLASSES}",
            hint="export the scores themselves with --task values",
            code="image-output",
        )
    notes = [f"{name} is exported as a mask of {classes} classes"]
    if kind == "sigmoid" and shape[-1] > 1:
        notes.append(f"{name} ends in a sigmoid per class: a pixel gets the class with the largest score")
    elif kind == "sigmoid" and asked.is_mask is None:
        notes[0] += " (if it is a gray picture, add --output-range 0..1)"
    elif kind not in ("softmax", "sigmoid"):
        layer = keras.layers.Softmax() if shape[-1] > 1 else keras.layers.Activation("sigmoid")
        tensor = layer(tensor)
        added = "Softmax" if shape[-1] > 1 else "sigmoid"
        notes.append(f"{name} outputs logits: a {added} was added, so the bundle returns probabilities")
    return tensor, ModelOutput("mask", classes, "image", shape), tuple(notes)


def _as_picture(tensor: Any, kind: str, described: UserModel, name: str) -> tuple[Any, tuple[int, ...]]:
    """Return an output with three axes; a channel axis is added, and a list of pixels is folded to rows."""
    import keras

    shape = tuple(tensor.shape[1:])
    folded: tuple[int, ...] | None = None
    if None in shape:
        folded = None
    elif len(shape) == 3:
        return tensor, shape
    elif len(shape) == 2 and kind == "softmax":
        folded = _folded(shape, described)
    elif len(shape) == 2:
        folded = (*shape, 1)
    if folded is None:
        shapes = ", ".join(f"{output.name} {output.shape}" for output in described.outputs)
        raise UsageError(
            f"--task image: the output {name} {shape} is no picture (height, width, channels) (outputs: {shapes})",
            hint="choose a layer that outputs one by --output-layer NAME, or export the numbers with --task values",
            code="image-output",
        )
    return keras.layers.Reshape(folded)(tensor), folded


def _folded(shape: tuple[int, ...], described: UserModel) -> tuple[int, int, int] | None:
    """Return (height, width, classes) of scores (pixels, classes) of the whole input, or of every second pixel, ..."""
    pixels, classes = shape
    divisor = math.isqrt(described.height * described.width // pixels)
    height, width = (side // divisor if divisor else 0 for side in (described.height, described.width))
    return (height, width, classes) if height * width == pixels else None


def _meaning(tensor: Any) -> tuple[str, tuple[float, float] | None]:
    """Return the last activation of an output, ``other`` if arithmetic follows it, and the range of its values."""
    operation, call = source(tensor)
    if is_model(operation):
        return _meaning(graph(operation).outputs[tensor._keras_history.tensor_index])
    name = type(operation).__name__
    activation = _BY_CLASS.get(name) or getattr(getattr(operation, "activation", None), "__name__", "none")
    inputs = call.input_tensors
    if activation in _BOUNDED:
        last = getattr(operation, "axis", -1) in (-1, len(tensor.shape) - 1)
        return ("other" if activation == "softmax" and not last else activation), _BOUNDED[activation]
    if len(inputs) != 1:
        return "other", None
    if name in _PASSING or _averages(operation, name) or (name == "Activation" and activation == "linear"):
        kind, values = _meaning(inputs[0])
        return (kind if inputs[0].shape[-1] == tensor.shape[-1] else "other"), values
    return "other", _computed(operation, name, call, inputs[0])


def _averages(operation: Any, name: str) -> bool:
    return name in ("UpSampling2D", "Resizing", "Resize") and getattr(operation, "interpolation", None) in _AVERAGING


def _computed(operation: Any, name: str, call: Any, tensor: Any) -> tuple[float, float] | None:
    """Return the range after arithmetic with one number, or after a clip; None if it has no known ends."""
    if name == "Clip" or (name == "ReLU" and operation.max_value is not None):
        return (operation.x_min, operation.x_max) if name == "Clip" else (0.0, operation.max_value)
    values = _meaning(tensor)[1]
    if values is None:
        return None
    if name == "Rescaling":
        ends = [end * operation.scale + operation.offset for end in values] if _are_numbers(operation) else []
    else:
        ends = [_arithmetic(name, [end if part is tensor else part for part in call.arguments.args]) for end in values]
    if not ends or any(not isinstance(end, int | float) for end in ends):
        return None
    return float(min(ends)), float(max(ends))


def _are_numbers(operation: Any) -> bool:
    return all(isinstance(number, int | float) for number in (operation.scale, operation.offset))


def _arithmetic(name: str, parts: list[Any]) -> float | None:
    """Return an operation of two numbers; None for another one, or of other values."""
    if len(parts) != 2 or not all(isinstance(part, int | float) for part in parts):
        return None
    left, right = parts
    if name in ("Divide", "TrueDivide"):
        return left / right if right else None
    return {"Add": left + right, "Subtract": left - right, "Multiply": left * right}.get(name)
