"""A user's model as it is exported: one output, and probabilities where it is a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xxdeploy.convert.layers import graph, is_model, single_input
from xxdeploy.convert.own_model import OwnModel, describe_own_model, last_activation
from xxdeploy.convert.select_output import select_output
from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    import keras

Task = Literal["classification", "features"]


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model ready for ``onnx_from_keras`` and ``KerasRunner``.

    ``model`` has one input ``(n, h, w, c)`` and one output; ``own`` describes it as it came; ``task`` is
    ``classification`` with ``classes`` probabilities, or ``features`` with ``classes`` None; ``notes`` says what was
    added or left out.
    """

    model: keras.Model
    own: OwnModel
    task: Task
    classes: int | None
    notes: tuple[str, ...]


def prepare_own_model(
    model: keras.Model, *, output_layer: str | None = None, task: Task | None = None
) -> PreparedModel:
    """Choose the output of a model, and turn logits into probabilities.

    Parameters
    ----------
    model : keras.Model
        From ``load_model_file``, or any built model.
    output_layer : str | None
        See :func:`~xxdeploy.convert.select_output.select_output`. The result of an inner layer is always features.
    task : str | None
        ``features`` keeps the output as it is. None: a softmax, a sigmoid, or two or more logits make a classifier.

    Raises
    ------
    UsageError
        Those of :func:`~xxdeploy.convert.own_model.describe_own_model` and ``select_output``;
        ``not-a-classifier``: classification is asked for, and the output is none.
    """
    model = _with_graph(model)
    ends = {tensor._keras_history.operation.name for tensor in graph(model).outputs}
    inner = output_layer is not None and output_layer not in ends
    selected = select_output(model, output_layer)
    own = describe_own_model(selected)
    notes = []
    if own.augmentations:
        notes.append(f"augmentation does nothing in inference: {', '.join(own.augmentations)}")
    kind = own.outputs[0].kind
    if task == "classification" and (own.classes is None or own.classes < 2):
        raise UsageError(
            f"the output {own.outputs[0].name} of {own.name} has the shape {own.outputs[0].shape}, no classes",
            hint="leave the task out, and it is exported as features",
            code="not-a-classifier",
        )
    if task == "features" or own.classes is None or (task is None and inner):
        return PreparedModel(selected, own, "features", None, tuple(notes))
    if kind == "logits":
        selected = _append(selected, _softmax)
        notes.append(f"{own.outputs[0].name} gives logits: a Softmax was added, so that the bundle gives probabilities")
    elif kind == "binary":
        selected = _append(selected, _both_sides)
        notes.append(f"{own.outputs[0].name} gives one probability p: the bundle gives two, 1 - p and p")
    elif last_activation(graph(selected).outputs[0]) == "sigmoid":
        notes.append(f"{own.outputs[0].name} judges each class by itself: its probabilities do not add up to 1")
    return PreparedModel(selected, own, "classification", own.classes, tuple(notes))


def _with_graph(model: Any) -> Any:
    """Return a model with a graph that takes and gives plain tensors, not lists or dictionaries of one.

    A model that is written as a class is called on a symbolic input.
    """
    import keras

    if is_model(model):
        inner = graph(model)
        plain = all(isinstance(part, keras.KerasTensor) for part in (inner._inputs_struct, inner._outputs_struct))
        if plain or len(inner.inputs) != 1:
            return model
        outputs = inner.outputs[0] if len(inner.outputs) == 1 else inner.outputs
        return keras.Model(inner.inputs[0], outputs, name=model.name)
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    shape = next(iter(shapes.values()), None)
    if len(shapes) != 1 or not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise UsageError(
            f"the model {model.name} does not say what pictures it takes",
            hint="call it once on keras.Input((height, width, 3)), and save keras.Model(inputs, outputs)",
            code="not-an-image",
        )
    image = keras.Input(tuple(shape[1:]), name="image")
    return keras.Model(image, model(image, training=False), name=model.name)


def _append(model: Any, last: Any) -> Any:
    import keras

    tensor = graph(model).outputs[0]
    return keras.Model(single_input(model), last(keras, tensor), name=model.name)


def _softmax(keras: Any, tensor: Any) -> Any:
    return keras.layers.Softmax(name="probabilities")(tensor)


def _both_sides(keras: Any, tensor: Any) -> Any:
    other = keras.layers.Rescaling(-1.0, 1.0, name="other_side")(tensor)
    return keras.layers.Concatenate(name="probabilities")([other, tensor])
