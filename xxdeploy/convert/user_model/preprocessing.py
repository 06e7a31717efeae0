"""The preprocessing of a user's model: its own scaling layers, or the user's choice; never a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xxdeploy.convert.keras_graph import calls, graph, is_model
from xxdeploy.convert.user_model.quarantine.known import AUGMENTATIONS, NOISES
from xxdeploy.datasets.scaling_file import scaling_for
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.sizing import DEFAULT_SIZING, Sizing

if TYPE_CHECKING:
    import keras

    from xxdeploy.convert.user_model.describe import UserModel

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


def choose_preprocess(
    user_model: UserModel, asked: str | None, *, sizing: Sizing = DEFAULT_SIZING, twice: bool = False
) -> tuple[Preprocess, tuple[str, ...]]:
    """Return the preprocessing for ``user_model``, and notes for the user.

    Parameters
    ----------
    user_model : UserModel
        From ``describe_model``.
    asked : str | None
        ``--preprocess``: as ``scaling_for`` reads it. None: the model must contain its own
        scaling layer, and receives pixels 0..255.
    sizing : Sizing
        How pictures are brought to size.
    twice : bool
        ``--scale-twice``: ``asked`` is meant to come before the model's own scaling.

    Raises
    ------
    UsageError
        ``preprocess-unknown``: nothing is asked for and the model does not scale; the hint names the likely answer.
        ``scaled-twice``: the model scales, and so does ``asked``, and it is not said that both are meant.
        ``preprocess-invalid``, ``no-preprocess-file``, ``bad-preprocess-file``.
    """
    inside = ", ".join(user_model.scaling)
    size = user_model.height, user_model.width, user_model.channels
    if asked is None:
        if not user_model.scaling:
            raise _unknown(user_model)
        note = f"the model scales pixels itself ({inside}), so its input is 0..255"
        return Preprocess(*size, "none", sizing), (note,)
    notes: tuple[str, ...] = ()
    if user_model.scaling and asked != "none":
        if not twice:
            raise UsageError(
                f"--preprocess {asked} scales pixels that the model {user_model.name} then scales itself ({inside})",
                hint="leave --preprocess out if the training gave the model pixels of 0..255; if it scaled them before "
                "the model, too, add --scale-twice",
                code="scaled-twice",
            )
        notes = (f"WARNING: pixels are scaled twice: by --preprocess {asked}, then by the model ({inside})",)
    mode, scaling = scaling_for(asked, user_model.channels)
    return Preprocess(*size, mode, sizing, scaling), notes


def _unknown(user_model: UserModel) -> UsageError:
    likely = user_model.likely
    option = f"--preprocess {likely}" if likely else "--preprocess tf|caffe|torch|none|0..1|FILE"
    family = f" (it looks like {user_model.family}, trained with {likely!r})" if user_model.family else ""
    return UsageError(
        f"the scaling of pixels for {user_model.name} is unknown: the model has no scaling layer, and --preprocess is "
        "not given",
        hint=f"add {option}{family}; use the preprocessing of the training, or add --eval FOLDER --preprocess auto",
        code="preprocess-unknown",
    )


def scaling_inside(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the operations that scale pixels between the input and the first weights.

    ``Rescaling``, ``Normalization``, or arithmetic with constants (``preprocess_input`` called on an input), also
    inside a nested model. Empty if the model expects numbers that are scaled outside.
    """
    names: list[str] = []
    _walk(model, {id(tensor) for tensor in graph(model).inputs}, names)
    return tuple(dict.fromkeys(names))


def augmentations_inside(model: keras.Model) -> tuple[str, ...]:
    """Return the names of layers that change images in training and do nothing in inference."""
    return tuple(layer.name for layer in model._flatten_layers() if type(layer).__name__ in AUGMENTATIONS)


def resized_to(model: keras.Model) -> tuple[int, int] | None:
    """Return height and width of the first ``Resizing`` layer, None without one."""
    for call in calls(model):
        if type(call.operation).__name__ == "Resizing":
            return int(call.operation.height), int(call.operation.width)
    return None


def _walk(model: Any, pixels: set[int], names: list[str]) -> bool:
    """Follow ``pixels`` (ids of tensors that hold pixels) through ``model``; return whether its outputs hold pixels.

    Names of scaling operations are appended to ``names``.
    """
    for call in calls(model):
        tensors = call.input_tensors
        if not tensors or not all(id(tensor) in pixels for tensor in tensors):
            continue
        operation = call.operation
        if is_model(operation):
            through = _walk(operation, {id(tensor) for tensor in graph(operation).inputs}, names)
        else:
            through = _passes_pixels(operation)
            if _scales(operation) and len(tensors) == 1:
                names.append(operation.name)
        if through:
            pixels.update(id(tensor) for tensor in call.output_tensors)
    return all(id(tensor) in pixels for tensor in graph(model).outputs)


def _is_operation(operation: Any) -> bool:
    return ".ops." in type(operation).__module__


def _scales(operation: Any) -> bool:
    if hasattr(operation, "scales_pixels"):  # a translated Lambda, a layer of a SavedModel
        return bool(operation.scales_pixels)
    return type(operation).__name__ in (_SCALING_OPERATIONS if _is_operation(operation) else _SCALING_LAYERS)


def _passes_pixels(operation: Any) -> bool:
    if hasattr(operation, "passes_pixels"):
        return bool(operation.passes_pixels)
    return _scales(operation) or type(operation).__name__ in (
        _NEUTRAL_OPERATIONS if _is_operation(operation) else _NEUTRAL_LAYERS
    )
