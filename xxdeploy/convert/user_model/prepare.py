"""A user's model as it is exported: the output that matters first, and probabilities where it is a classifier."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xxdeploy.convert.layers import graph, is_model, single_input
from xxdeploy.convert.user_model.own_model import OwnModel, OwnOutput, describe_own_model, last_activation
from xxdeploy.convert.user_model.select_output import select_output
from xxdeploy.errors import UsageError
from xxdeploy.results import ModelOutput

if TYPE_CHECKING:
    import keras

Task = Literal["classification", "features"]


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model ready for ``onnx_from_keras`` and ``KerasRunner``.

    ``model`` has one input ``(n, h, w, c)``, and the ``outputs``: of several the first classifier comes first, for it
    is the one that is measured. One alone is called ``probabilities`` or ``features``, of several each after its layer.
    ``own`` describes the model as it came; ``notes`` says what was added or left out.
    """

    model: keras.Model
    own: OwnModel
    outputs: tuple[ModelOutput, ...]
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """Return the first output's: ``classification`` (probabilities) or ``features``."""
        return self.outputs[0].task

    @property
    def classes(self) -> int | None:
        """Return the first output's; None for features."""
        return self.outputs[0].classes


def prepare_own_model(model: keras.Model, *, output_layer: str | None = None, task: str | None = None) -> PreparedModel:
    """Choose the outputs of a model, and turn logits into probabilities.

    Parameters
    ----------
    model : keras.Model
        From ``load_model_file``, or any built model.
    output_layer : str | None
        See ``convert.user_model.select_output.select_output``. The result of an inner layer is features, unless
        ``task`` says something else.
    task : str | None
        ``features`` keeps every output as it is; ``classification`` needs classes in one. None: a softmax or a sigmoid
        makes a classifier, and where there is none, two or more logits: beside a softmax they are as likely an
        embedding, and stay as they are.

    Raises
    ------
    UsageError
        Those of :func:`~xxdeploy.convert.user_model.own_model.describe_own_model` and ``select_output``;
        ``not-a-classifier``: classification is asked for, and no output is one.
    """
    model = _with_graph(model)
    ends = {tensor._keras_history.operation.name for tensor in graph(model).outputs}
    inner = output_layer is not None and output_layer not in ends
    selected = select_output(model, output_layer)
    own = describe_own_model(selected)
    tensors = list(graph(selected).outputs)
    notes = []
    if own.augmentations:
        notes.append(f"augmentation does nothing in inference: {', '.join(own.augmentations)}")
    doubtful = task is None and any(end.kind in ("probabilities", "binary") for end in own.outputs)
    classes = [None if task == "features" or (task is None and inner) else end.classes for end in own.outputs]
    for index, end in enumerate(own.outputs):
        if doubtful and end.kind == "logits" and classes[index]:
            classes[index] = None
            notes.append(f"{end.name} is exported as features (if it is scores of classes: --task classification)")
    if task == "classification" and not any(classes):
        shapes = ", ".join(f"{end.name} {end.shape}" for end in own.outputs)
        raise UsageError(
            f"the model {own.name} gives no classes: {shapes}",
            hint="leave --task out, and it is exported as features",
            code="not-a-classifier",
        )
    finished = []
    for tensor, end, number in zip(tensors, own.outputs, classes, strict=True):
        last, said = (tensor, []) if number is None else _as_probabilities(tensor, end, asked=task is not None)
        finished.append(last)
        notes += said
    first = next((index for index, number in enumerate(classes) if number is not None), 0)
    order = [first, *(index for index in range(len(tensors)) if index != first)]
    if len(tensors) > 1:
        outputs = tuple(
            ModelOutput(name, classes[index])
            for name, index in zip(_names([own.outputs[index] for index in order]), order, strict=True)
        )
        others = ", ".join(f"{output.name} ({output.task})" for output in outputs[1:])
        notes.append(f"{outputs[0].name} is the output that is measured and predicted with; beside it {others}")
    else:
        outputs = (ModelOutput("features" if classes[0] is None else "probabilities", classes[0]),)
    if len(tensors) > 1 or finished != tensors:
        ordered = [finished[index] for index in order]
        one = ordered[0] if len(ordered) == 1 else ordered
        selected = _model(single_input(selected), one, selected.name)
    return PreparedModel(selected, own, outputs, tuple(notes))


def _as_probabilities(tensor: Any, end: OwnOutput, *, asked: bool) -> tuple[Any, list[str]]:
    """Return a classifier's output as probabilities, and what there is to say of it."""
    import keras

    if end.kind == "logits":
        doubt = "" if asked else " (if they are an embedding and no classes: --task features)"
        said = f"{end.name} gives logits: a Softmax was added, so that the bundle gives probabilities{doubt}"
        return keras.layers.Softmax(name=f"{end.name}_probabilities")(tensor), [said]
    if end.kind == "binary":
        other = keras.layers.Rescaling(-1.0, 1.0, name=f"{end.name}_other_side")(tensor)
        both = keras.layers.Concatenate(name=f"{end.name}_probabilities")([other, tensor])
        return both, [f"{end.name} gives one probability p: the bundle gives two, 1 - p and p"]
    if last_activation(tensor) == "sigmoid":
        return tensor, [f"{end.name} judges each class by itself: its probabilities do not add up to 1"]
    return tensor, []


def _names(ends: Sequence[OwnOutput]) -> list[str]:
    """Call each output after its layer, in letters that a manifest holds; two of one layer get a number."""
    names: list[str] = []
    for end in ends:
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", end.name, flags=re.ASCII).strip("-._+")[:120] or "output"
        name, count = stem, 1
        while name.lower() in ("image", *map(str.lower, names)):
            count += 1
            name = f"{stem}_{count}"
        names.append(name)
    return names


def _model(image: Any, outputs: Any, name: str) -> Any:
    import keras

    return keras.Model(image, outputs, name=name)


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
