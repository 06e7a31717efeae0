"""What a user's model takes and gives, as far as its layers say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xxdeploy.convert.layers import graph, is_model, source
from xxdeploy.convert.user_model.family import family_of
from xxdeploy.convert.user_model.front import augmentations_inside, resized_to, scaling_inside
from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    import keras

Kind = Literal["probabilities", "binary", "logits", "features"]

_PASSING = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Ravel", "Reshape", "Squeeze", "StopGradient"})
_LARGEST = 4096  # pixels a side, as in runtime/image/preprocess.py


@dataclass(frozen=True, slots=True)
class OwnOutput:
    """One output of a model.

    Attributes
    ----------
    name : str
        Of the layer that makes it.
    shape : tuple[int | None, ...]
        Without the batch axis; None where it depends on the input.
    kind : str
        ``probabilities``: a softmax or sigmoid over two or more classes. ``binary``: one sigmoid. ``logits``: a
        layer with weights and without activation, two or more wide. ``features``: anything else.
    """

    name: str
    shape: tuple[int | None, ...]
    kind: Kind

    @property
    def classes(self) -> int | None:
        """Return how many classes it tells apart; None for features."""
        return {"features": None, "binary": 2}.get(self.kind, self.shape[0])


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What a model takes and gives.

    Attributes
    ----------
    name : str
        As Keras calls it.
    height, width, channels : int
        Of the pictures that it takes, in pixels.
    batch : int | None
        The number of pictures that it insists on; None takes any.
    outputs : tuple[OwnOutput, ...]
        One or more.
    scaling : tuple[str, ...]
        Layers and operations inside that scale the pixels; empty when that is done outside.
    augmentations : tuple[str, ...]
        Layers that only work in training.
    family : str | None
        The network of the catalog that it was made from, as far as names of layers tell.
    likely : str | None
        The preprocessing that this network was trained with: a guess, for messages.
    """

    name: str
    height: int
    width: int
    channels: int
    batch: int | None
    outputs: tuple[OwnOutput, ...]
    scaling: tuple[str, ...]
    augmentations: tuple[str, ...]
    family: str | None
    likely: str | None

    @property
    def classes(self) -> int | None:
        """Return how many classes a classifier with one output tells apart; None for features or several outputs."""
        return self.outputs[0].classes if len(self.outputs) == 1 else None


def describe_own_model(model: keras.Model) -> OwnModel:
    """Look at a built model.

    Raises
    ------
    UsageError
        ``not-one-input``; ``not-an-image``: the input is not ``(batch, height, width, 1 or 3)``;
        ``input-size-missing``: the model takes pictures of any size.
    """
    inputs = graph(model).inputs if is_model(model) else []
    if len(inputs) != 1:
        raise UsageError(
            f"the model {model.name} has {len(inputs)} inputs",
            hint="only a model with one input, an image, can be exported",
            code="not-one-input",
        )
    batch, height, width, channels = _image_shape(model, inputs[0].shape)
    spec = family_of(model)
    return OwnModel(
        name=model.name,
        height=height,
        width=width,
        channels=channels,
        batch=batch,
        outputs=tuple(
            OwnOutput(source(tensor)[0].name, tuple(tensor.shape[1:]), output_kind(tensor))
            for tensor in graph(model).outputs
        ),
        scaling=scaling_inside(model),
        augmentations=augmentations_inside(model),
        family=spec.title if spec else None,
        likely=spec.preprocess if spec else None,
    )


def output_kind(tensor: Any) -> Kind:
    """Tell what an output holds, from the last layer that does more than reshape.

    ``tensor`` is a symbolic tensor of Keras. More than one axis beside the batch is always ``features``.
    """
    if len(tensor.shape) != 2 or tensor.shape[1] is None:
        return "features"
    last, activation = _last(tensor), last_activation(tensor)
    wide = tensor.shape[1] >= 2
    if activation == "softmax" and wide:
        return "probabilities"
    if activation == "sigmoid":
        return "probabilities" if wide else "binary"
    weighs = type(last).__name__ in ("Dense", "Conv2D")
    return "logits" if weighs and wide and activation == "linear" else "features"


def last_activation(tensor: Any) -> str:
    """Return the name of the activation that an output ends with: ``softmax``, ``linear``, ..., ``none``."""
    return _activation(_last(tensor))


def _last(tensor: Any) -> Any:
    """Return the operation that decides what ``tensor`` holds."""
    while True:
        operation, call = source(tensor)
        if is_model(operation):
            tensor = graph(operation).outputs[tensor._keras_history.tensor_index]
        elif len(call.input_tensors) == 1 and _passes(operation):
            tensor = call.input_tensors[0]
        else:
            return operation


def _passes(operation: Any) -> bool:
    name = type(operation).__name__
    return name in _PASSING or (name == "Activation" and _activation(operation) == "linear")


def _activation(operation: Any) -> str:
    """Return the name of what ``operation`` applies at its end."""
    kind = type(operation).__name__
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    return getattr(getattr(operation, "activation", None), "__name__", "none")


def _image_shape(model: Any, shape: tuple[int | None, ...]) -> tuple[int | None, int, int, int]:
    if len(shape) != 4 or shape[3] not in (1, 3):
        first = len(shape) == 4 and shape[1] in (1, 3)
        raise UsageError(
            f"the model {model.name} takes {tuple(shape[1:])}, not pictures of (height, width, 1 or 3)",
            hint="it was made for channels first: build and save it with data_format='channels_last'"
            if first
            else "only models of RGB or gray pictures can be exported",
            code="not-an-image",
        )
    batch, height, width, channels = shape
    if height is None or width is None:
        size = resized_to(model)
        raise UsageError(
            f"the model {model.name} takes pictures of any size, and a bundle has one",
            hint=f"--input-size {size[0]}, to which its own Resizing layer brings them"
            if size
            else "--input-size N, the height and width that it was trained with",
            code="input-size-missing",
        )
    if max(height, width) > _LARGEST:
        raise UsageError(
            f"the model {model.name} takes pictures of {height} x {width} pixels",
            hint=f"--input-size {_LARGEST} or less",
            code="bad-input-size",
        )
    assert channels is not None
    return batch, height, width, channels
