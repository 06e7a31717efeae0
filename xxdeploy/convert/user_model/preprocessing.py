"""The preprocessing of a user's model: its own scaling layers, or the user's choice; never a guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xxdeploy.convert.keras_graph import calls, graph, is_model
from xxdeploy.convert.user_model.inputs import ARRAY, Asked
from xxdeploy.convert.user_model.quarantine.known import AUGMENTATIONS, NOISES
from xxdeploy.datasets.scaling_file import scaling_for
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.sizing import DEFAULT_SIZING, Sizing
from xxdeploy.runtime.inputs import ArrayInput, InputForm, SeveralInputs

if TYPE_CHECKING:
    import keras

    from xxdeploy.convert.user_model.describe import UserModel
    from xxdeploy.convert.user_model.inputs import UserInput

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
) -> tuple[InputForm, tuple[str, ...]]:
    """Return the preprocessing of each input of ``user_model``, and notes for the user.

    Parameters
    ----------
    user_model : UserModel
        From ``describe_model``.
    asked : str | None
        ``--preprocess``: as ``Asked.read`` reads it, and ``scaling_for`` each value. None: the model must contain its
        own scaling layer, and receives pixels 0..255.
    sizing : Sizing
        How pictures are brought to size.
    twice : bool
        ``--scale-twice``: ``asked`` is meant to come before the model's own scaling.

    Raises
    ------
    UsageError
        ``preprocess-unknown``: nothing is asked for a picture and the model does not scale it; the hint names the
        likely answer. ``scaled-twice``: the model scales, and so does ``asked``, and it is not said that both are
        meant. ``preprocess-names``: a scaling is asked for an array, or no input is a picture.
        ``preprocess-invalid``, ``no-preprocess-file``, ``bad-preprocess-file``.
    """
    read = Asked.read(asked)
    if read.default not in (None, ARRAY) and not any(each.is_picture for each in user_model.inputs):
        raise UsageError(
            f"--preprocess {read.default} scales pixels, and {user_model.name} reads no picture, but "
            + ", ".join(f"{each.name} {each.shape}" for each in user_model.inputs),
            hint="leave --preprocess out: the bundle takes the numbers as they are, so scale them as in training first",
            code="preprocess-names",
        )
    forms: list[Preprocess | ArrayInput] = []
    notes: tuple[str, ...] = ()
    for each in user_model.inputs:
        if each.is_picture:
            picture, said = _picture(user_model, each, read.of(each.name), sizing, twice=twice)
            forms.append(picture)
            notes += said
        else:
            if read.named.get(each.name, ARRAY) != ARRAY:
                raise UsageError(
                    f"--preprocess {each.name}={read.named[each.name]} scales pixels, and the input {each.name} "
                    f"{each.shape} is no picture",
                    hint=f"leave {each.name} out: the bundle takes its numbers as they are",
                    code="preprocess-names",
                )
            forms.append(ArrayInput(each.shape))
    if len(forms) == 1:
        return forms[0], notes
    names = [each.name for each in user_model.inputs]
    return SeveralInputs(tuple(zip(names, forms, strict=True))), notes


def _picture(
    user_model: UserModel, picture: UserInput, asked: str | None, sizing: Sizing, *, twice: bool
) -> tuple[Preprocess, tuple[str, ...]]:
    several = len(user_model.inputs) > 1
    inside, of = ", ".join(picture.scaling), f" of {picture.name}" if several else ""
    height, width, channels = picture.shape
    if asked is None:
        if not picture.scaling:
            raise _unknown(user_model, picture if several else None)
        note = f"the model scales pixels{of} itself ({inside}), so its input is 0..255"
        return Preprocess(height, width, channels, "none", sizing), (note,)
    notes: tuple[str, ...] = ()
    if picture.scaling and asked != "none":
        if not twice:
            raise UsageError(
                f"--preprocess {asked} scales pixels{of} that the model {user_model.name} then scales itself "
                f"({inside})",
                hint="leave --preprocess out if the training gave the model pixels of 0..255; if it scaled them before "
                "the model, too, add --scale-twice",
                code="scaled-twice",
            )
        notes = (f"WARNING: pixels{of} are scaled twice: by --preprocess {asked}, then by the model ({inside})",)
    mode, scaling = scaling_for(asked, channels)
    return Preprocess(height, width, channels, mode, sizing, scaling), notes


def _unknown(user_model: UserModel, picture: UserInput | None) -> UsageError:
    likely = user_model.likely
    option = f"--preprocess {likely}" if likely else "--preprocess tf|caffe|torch|none|0..1|FILE"
    family = f" (it looks like {user_model.family}, trained with {likely!r})" if user_model.family else ""
    if picture is not None:
        return UsageError(
            f"the scaling of pixels for the input {picture.name} of {user_model.name} is unknown: the model has no "
            "scaling layer for it, and --preprocess does not say it",
            hint=f"add {option} for all pictures, or --preprocess {picture.name}=tf and so on{family}; if it is no "
            f"picture, --preprocess {picture.name}={ARRAY}",
            code="preprocess-unknown",
        )
    return UsageError(
        f"the scaling of pixels for {user_model.name} is unknown: the model has no scaling layer, and --preprocess is "
        "not given",
        hint=f"add {option}{family}; use the preprocessing of the training, or add --eval FOLDER --preprocess auto",
        code="preprocess-unknown",
    )


def scaling_inside(model: keras.Model, picture: Any) -> tuple[str, ...]:
    """Return the names of the operations that scale pixels between the input ``picture`` and the first weights.

    ``Rescaling``, ``Normalization``, or arithmetic with constants (``preprocess_input`` called on an input), also
    inside a nested model. Empty if the model expects numbers that are scaled outside.
    """
    names: list[str] = []
    _walk(model, {id(picture)}, names)
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
