"""The input, the outputs and the catalog family of a user's model, read from its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from xxdeploy.convert.keras_graph import graph, is_model, layer_paths, source
from xxdeploy.convert.user_model.inputs import NOTHING, Asked, UserInput, keras_names, read_inputs
from xxdeploy.convert.user_model.preprocessing import augmentations_inside, resized_to, scaling_inside
from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, ModelSpec, find

if TYPE_CHECKING:
    import keras

Kind = Literal["probabilities", "binary", "logits", "features"]

_PASSING = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Ravel", "Reshape", "Squeeze", "StopGradient"})
_EFFICIENTNETS = {"d": "B0", "e": "B1", "f": "B3", "h": "B4", "i": "B5", "k": "B6", "m": "B7"}
_EFFICIENTNETS_V2 = {"h": "V2B0", "i": "V2B1", "j": "V2B2", "l": "V2B3", "o": "V2S", "r": "V2M", "y": "V2L"}
"""EfficientNets by the letter of the last repetition of their sixth block; B2 is a wider B1."""
_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("MobileNetV2", ("bn_Conv1", "expanded_conv_project")),
    ("MobileNet", ("conv_dw_1", "conv_pw_1")),
    ("Xception", ("block2_sepconv1", "block14_sepconv2")),
    ("VGG19", ("block1_conv1", "block5_conv4")),
    ("VGG16", ("block1_conv1", "block5_conv3")),
    ("InceptionResNetV2", ("conv_7b", "mixed_6a")),
    ("InceptionV3", ("mixed0", "mixed10")),
    ("NASNetMobile", ("stem_conv1", "stem_bn1")),
    ("ResNet50V2", ("conv1_conv", "post_bn")),
    ("DenseNet121", ("conv1_conv", "conv2_block1_concat")),
    ("ResNet50", ("conv1_conv", "conv1_bn", "conv2_block1_out")),
    ("MobileNetV3Large", ("conv_bn", "expanded_conv_14_project")),
    ("MobileNetV3Small", ("conv_bn", "expanded_conv_10_project")),
    *(
        (f"ConvNeXt{size}", (f"convnext_{size.lower()}_stage_3_block_2_depthwise_conv",))
        for size in ("Tiny", "Small", "Base", "Large", "XLarge")
    ),
)
"""Layer names that occur together in one network only. A network that contains another's names comes first."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A float32 model with a free batch axis, and notes on the changes that made it so."""

    model: keras.Model
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserOutput:
    """One output of a user's model.

    Attributes
    ----------
    name : str
        The layer that computes it.
    shape : tuple[int | None, ...]
        Without the batch axis; None for axes that depend on the input.
    kind : str
        ``probabilities``: a softmax or sigmoid over two or more classes. ``binary``: one sigmoid. ``logits``: a layer
        with weights and no activation, two or more wide. ``features``: anything else.
    """

    name: str
    shape: tuple[int | None, ...]
    kind: Kind

    @property
    def classes(self) -> int | None:
        """Number of classes; None for features."""
        return {"features": None, "binary": 2}.get(self.kind, self.shape[0])


@dataclass(frozen=True, slots=True)
class UserModel:
    """The inputs and outputs of a user's model.

    ``height``, ``width``, ``channels`` and ``scaling`` are those of a model of one picture (else ``UsageError``
    ``not-one-picture``).

    Attributes
    ----------
    name : str
        Keras' name of the model.
    inputs : tuple[UserInput, ...]
        In the order of the model.
    batch : int | None
        The fixed batch size; None takes any.
    outputs : tuple[UserOutput, ...]
        One or more.
    augmentations : tuple[str, ...]
        Layers that act in training only.
    family : str | None
        The network of the catalog whose layer names the model has.
    likely : str | None
        The preprocessing of that network's training: a guess, for messages.
    """

    name: str
    inputs: tuple[UserInput, ...]
    batch: int | None
    outputs: tuple[UserOutput, ...]
    augmentations: tuple[str, ...]
    family: str | None
    likely: str | None

    @property
    def classes(self) -> int | None:
        """Number of classes of a classifier with one output; None for features or several outputs."""
        return self.outputs[0].classes if len(self.outputs) == 1 else None

    @property
    def picture(self) -> UserInput:
        """The only input, a picture."""
        if len(self.inputs) == 1 and self.inputs[0].is_picture:
            return self.inputs[0]
        told = ", ".join(f"{each.name} {each.shape}" for each in self.inputs)
        raise UsageError(
            f"the model {self.name} has the inputs {told}, and this is for models of one picture",
            hint="leave the step out for this model (--preprocess auto, --task image, `xxdeploy diagnose`)",
            code="not-one-picture",
        )

    @property
    def height(self) -> int:
        """Height of the picture, in pixels."""
        return self.picture.shape[0]

    @property
    def width(self) -> int:
        """Width of the picture, in pixels."""
        return self.picture.shape[1]

    @property
    def channels(self) -> int:
        """1 (gray) or 3."""
        return self.picture.shape[2]

    @property
    def scaling(self) -> tuple[str, ...]:
        """Layers and operations that scale pixels inside the model; empty if it expects scaled pixels."""
        return self.picture.scaling


def describe_model(model: keras.Model, asked: Asked = NOTHING) -> UserModel:
    """Describe the inputs, outputs and family of a built model; ``asked`` says which inputs are arrays.

    Raises
    ------
    UsageError
        As :func:`~xxdeploy.convert.user_model.inputs.read_inputs`.
    """
    tensors = graph(model).inputs if is_model(model) else []
    names = keras_names(tensors, getattr(graph(model), "_inputs_struct", None))
    shapes = [(name, tensor.shape) for name, tensor in zip(names, tensors, strict=True)]
    inputs = read_inputs(model.name, shapes, asked, lambda: resized_to(model), lambda: family_of(model))
    inputs = tuple(
        replace(each, scaling=scaling_inside(model, tensor)) if each.is_picture else each
        for each, tensor in zip(inputs, tensors, strict=True)
    )
    spec = family_of(model)
    return UserModel(
        name=model.name,
        inputs=inputs,
        batch=tensors[0].shape[0],
        outputs=tuple(
            UserOutput(source(tensor)[0].name, tuple(tensor.shape[1:]), output_kind(tensor))
            for tensor in graph(model).outputs
        ),
        augmentations=augmentations_inside(model),
        family=spec.title if spec else None,
        # A network that scales pixels itself may have been built without that: its input is anybody's guess then.
        likely=spec.preprocess if spec and spec.preprocess != "none" else None,
    )


def family_of(model: keras.Model) -> ModelSpec | None:
    """Return the network of the catalog whose layer names ``model`` has, or None."""
    layers = {path.rpartition("/")[2]: layer for path, layer in layer_paths(model)}
    for title, marks in _MARKS:
        if all(mark in layers for mark in marks):
            if title == "ResNet50" and not layers["conv1_conv"].use_bias:
                return find("ResNet50V1.5")  # as PyTorch trains them: no bias in front of a batch normalization
            if title.startswith("MobileNetV3") and "expanded_conv_4_squeeze_excite_mul" not in layers:
                return find(f"{title}-Minimalistic")
            return find(title)
    return _efficientnet(layers)


def _efficientnet(layers: Mapping[str, Any]) -> ModelSpec | None:
    """Return the EfficientNet with these layers, or None; ``layers`` are all layers by name."""
    letters = [name[6] for name in layers if name.startswith("block6") and name.endswith("_project_conv")]
    if "top_conv" not in layers or "block1a_project_conv" not in layers or not letters:
        return None
    names = _EFFICIENTNETS_V2 if "block1a_project_activation" in layers else _EFFICIENTNETS
    variant = names.get(max(letters))
    if variant == "B1" and layers["top_conv"].filters != 1280:
        variant = "B2"
    return next((spec for spec in CATALOG if spec.title == f"EfficientNet{variant}"), None)


def output_kind(tensor: Any) -> Kind:
    """Return the kind of an output, decided by the last layer that does more than reshape.

    ``tensor`` is a symbolic tensor of Keras. A tensor with more than one axis after the batch is ``features``.
    """
    if len(tensor.shape) != 2 or tensor.shape[1] is None:
        return "features"
    activation, weighs = _last(tensor)
    wide = tensor.shape[1] >= 2
    if activation == "softmax" and wide:
        return "probabilities"
    if activation == "sigmoid":
        return "probabilities" if wide else "binary"
    return "logits" if weighs and wide and activation == "linear" else "features"


def last_activation(tensor: Any) -> str:
    """Return the name of an output's final activation: ``softmax``, ``linear``, ..., ``none``."""
    return _last(tensor)[0]


def _last(tensor: Any) -> tuple[str, bool]:
    """Return the activation of the last operation upstream of ``tensor`` that does more than reshape.

    Also whether that operation is a dense layer or a convolution.
    """
    while True:
        operation, call = source(tensor)
        if hasattr(operation, "end_of"):  # a layer of a SavedModel
            end = operation.end_of(tensor._keras_history.tensor_index)
            if end.through is None:
                return end.activation, end.weighs
            tensor = call.input_tensors[end.through]
            if end.adds:
                activation, weighs = _last(tensor)
                return "linear", weighs and activation == "linear"
        elif is_model(operation):
            tensor = graph(operation).outputs[tensor._keras_history.tensor_index]
        elif len(call.input_tensors) == 1 and _passes(operation):
            tensor = call.input_tensors[0]
        else:
            return _activation(operation), type(operation).__name__ in ("Dense", "Conv2D")


def _passes(operation: Any) -> bool:
    name = type(operation).__name__
    return name in _PASSING or (name == "Activation" and _activation(operation) == "linear")


def _activation(operation: Any) -> str:
    """Return the name of the activation that ``operation`` applies."""
    kind = type(operation).__name__
    if kind == "TimeDistributed":
        return _activation(operation.layer)
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    return getattr(getattr(operation, "activation", None), "__name__", "none")
