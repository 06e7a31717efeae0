"""Prepare a user's model for export: choose and order its outputs, and turn scores into probabilities."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.keras_graph import calls, graph, is_model, layer_paths, single_input
from xxdeploy.convert.user_model.describe import UserModel, UserOutput, describe_model, last_activation
from xxdeploy.convert.user_model.image_output import ANY_IMAGE, ImageRequest, image_output
from xxdeploy.convert.user_model.inputs import NOTHING, Asked, UserInput, keras_names, names_in_manifest
from xxdeploy.convert.user_model.sequence_output import about_orientation, exchanged, sequence_outputs
from xxdeploy.errors import UsageError
from xxdeploy.results import ModelOutput

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model ready for ``onnx_from_keras`` and ``KerasRunner``.

    ``model`` has the ``inputs`` by their names, pictures as ``(n, h, w, c)``, and the ``outputs``. A single picture is
    called ``image``. Of several outputs the first classifier (or picture) comes first: it is measured and predicted
    with. A single output is called ``probabilities``, ``features``, ``picture``, ``mask`` or ``values`` (with a number
    after it if an input has this name), several are called after their layers. ``described`` is the model as it was
    loaded; ``notes`` lists additions and omissions.
    """

    model: keras.Model
    described: UserModel
    outputs: tuple[ModelOutput, ...]
    notes: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs in the graph."""
        inputs = self.described.inputs
        return ("image",) if len(inputs) == 1 and inputs[0].is_picture else tuple(each.name for each in inputs)

    @property
    def task(self) -> str:
        """The task of the first output."""
        return self.outputs[0].task

    @property
    def classes(self) -> int | None:
        """Number of classes of the first output; None without."""
        return self.outputs[0].classes


def prepare_model(
    model: keras.Model,
    *,
    output_layer: str | None = None,
    task: str | None = None,
    image: ImageRequest = ANY_IMAGE,
    asked: Asked = NOTHING,
    transposed: bool = False,
) -> PreparedModel:
    """Choose the outputs of a model, and turn logits and single sigmoids into probabilities.

    Parameters
    ----------
    model : keras.Model
        From ``load_model_file``, or any built model.
    output_layer : str | None
        See :func:`select_output`. An inner layer outputs features unless ``task`` is given.
    task : str | None
        ``features`` keeps each output as it is; ``classification`` requires at least one output with classes. None: an
        output that ends in a softmax or sigmoid is a classifier. Without one, two or more logits are a classifier;
        next to a softmax they may be an embedding, and stay features. ``image``: the first output with three axes is a
        picture or a mask, see :func:`~xxdeploy.convert.user_model.image_output.image_output`. ``values``: each output
        is numbers, kept as they are. ``sequence``: the first output with two axes has a class for each step.
    image : ImageRequest
        What the options say about a picture.
    asked : Asked
        Says which inputs are arrays.
    transposed : bool
        The model takes pictures with rows and columns exchanged: exchange them inside the model.

    Raises
    ------
    UsageError
        Those of :func:`~xxdeploy.convert.user_model.describe.describe_model`, ``select_output`` and ``image_output``;
        ``not-a-classifier``: ``task`` is ``classification``, and no output has classes.
    """
    model = _with_graph(model)
    ends = {tensor._keras_history.operation.name for tensor in graph(model).outputs}
    inner = output_layer is not None and output_layer not in ends
    selected = select_output(model, output_layer)
    selected, notes = _without_unused(selected)
    described = describe_model(selected, asked)
    selected = _with_channels(selected, described.inputs)
    tensors = list(graph(selected).outputs)
    if described.augmentations:
        notes.append(f"augmentation layers do nothing in inference: {', '.join(described.augmentations)}")
    notes += [
        f"{end.name} is a softmax over one class: it is 1 for every picture (a sigmoid has two answers)"
        for tensor, end in zip(tensors, described.outputs, strict=True)
        if end.shape[-1:] == (1,) and last_activation(tensor) == "softmax"
    ]
    makers: dict[str | None, Callable[[Sequence[Any], UserModel], _Finished]]
    makers = {"image": partial(_pictures, image), "values": _values, "sequence": sequence_outputs}
    ends_and_outputs, said = makers.get(task, partial(_classes, task, inner))(tensors, described)
    notes += said
    first = next((index for index, (_, output) in enumerate(ends_and_outputs) if output.task != "features"), 0)
    order = [first, *(index for index in range(len(tensors)) if index != first)]
    finished = [ends_and_outputs[index][0] for index in order]
    outputs = tuple(ends_and_outputs[index][1] for index in order)
    if len(tensors) > 1:
        ends_in_order, inputs = [described.outputs[index] for index in order], [each.name for each in described.inputs]
        names = _names(ends_in_order, inputs)
        outputs = tuple(replace(output, name=name) for output, name in zip(outputs, names, strict=True))
        others = ", ".join(f"{output.name} ({output.task})" for output in outputs[1:])
        what = "accuracy and predictions" if outputs[0].task == "classification" else "measurements and predictions"
        notes.append(f"{what} use the output {outputs[0].name}; other outputs: {others}")
    else:
        taken = () if len(described.inputs) == 1 and described.inputs[0].is_picture else described.inputs
        name = names_in_manifest([outputs[0].name], [each.name for each in taken])[0]
        outputs = (replace(outputs[0], name=name),)
    if len(tensors) > 1 or any(last is not tensor for last, tensor in zip(finished, tensors, strict=True)):
        selected = _model(single_input(selected), finished[0] if len(finished) == 1 else finished, selected.name)
    if transposed:
        selected, described = exchanged(selected, described)
    elif task == "sequence":
        notes += about_orientation(described)
    return PreparedModel(selected, described, outputs, tuple(notes))


_Finished = tuple[list[tuple[Any, ModelOutput]], list[str]]
"""Each output's last tensor and its description, and notes for the user."""


def _classes(task: str | None, inner: bool, tensors: Sequence[Any], described: UserModel) -> _Finished:
    """Finish classifiers and features; ``inner``: the output is that of an inner layer."""
    notes: list[str] = []
    doubtful = task is None and any(end.kind in ("probabilities", "binary") for end in described.outputs)
    classes = [None if task == "features" or (task is None and inner) else end.classes for end in described.outputs]
    for index, end in enumerate(described.outputs):
        if doubtful and end.kind == "logits" and classes[index]:
            classes[index] = None
            notes.append(f"{end.name} is exported as features (if it is class scores, add --task classification)")
    if task == "classification" and not any(classes):
        shapes = ", ".join(f"{end.name} {end.shape}" for end in described.outputs)
        raise UsageError(
            f"--task classification: no output of the model {described.name} has class scores ({shapes})",
            hint="leave --task out to export features",
            code="not-a-classifier",
        )
    sizes = [each.shape[:2] for each in described.inputs if each.is_picture]
    notes += [
        f"{end.name} is exported as features (if it is a picture or a mask, add --task image)"
        for end in (described.outputs if task is None and not inner else ())
        if len(end.shape) == 3 and None not in end.shape and any(end.shape[:2] >= size for size in sizes)
    ]
    finished = []
    for tensor, end, number in zip(tensors, described.outputs, classes, strict=True):
        last, said = (tensor, []) if number is None else _as_probabilities(tensor, end, asked=task is not None)
        finished.append((last, ModelOutput("features" if number is None else "probabilities", number)))
        notes += said
    return finished, notes


def _pictures(asked: ImageRequest, tensors: Sequence[Any], described: UserModel) -> _Finished:
    """Finish the first output that can be a picture or a mask; the others are features."""
    shaped = [index for index, end in enumerate(described.outputs) if len(end.shape) == 3]
    first = shaped[0] if shaped else 0
    last, output, notes = image_output(tensors[first], described, asked, described.outputs[first].name)
    finished = [(tensor, ModelOutput("features", None)) for tensor in tensors]
    finished[first] = last, output
    return finished, list(notes)


def _values(tensors: Sequence[Any], _: UserModel) -> _Finished:
    """Finish outputs that are numbers: each is kept as it is."""
    return [(tensor, ModelOutput("values", None, "values", tuple(tensor.shape[1:]))) for tensor in tensors], []


def _as_probabilities(tensor: Any, end: UserOutput, *, asked: bool) -> tuple[Any, list[str]]:
    """Return a classifier's output as probabilities, and notes on it."""
    import keras

    if end.kind == "logits":
        doubt = "" if asked else " (if it is an embedding, add --task features; if numbers, --task values)"
        said = f"{end.name} outputs logits: a Softmax was added, so the bundle returns probabilities{doubt}"
        return keras.layers.Softmax(name=f"{end.name}_probabilities")(tensor), [said]
    if end.kind == "binary":
        other = keras.layers.Rescaling(-1.0, 1.0, name=f"{end.name}_other_side")(tensor)
        both = keras.layers.Concatenate(name=f"{end.name}_probabilities")([other, tensor])
        return both, [f"{end.name} outputs one probability p: the bundle returns two, 1 - p and p"]
    if last_activation(tensor) == "sigmoid":
        return tensor, [f"{end.name} ends in a sigmoid per class: its probabilities do not add up to 1"]
    return tensor, []


def _names(ends: Sequence[UserOutput], inputs: Sequence[str]) -> tuple[str, ...]:
    """Name each output after its layer, in characters that a manifest allows; a repeated name gets a number."""
    return names_in_manifest([end.name for end in ends], ("image", *inputs))


def _model(image: Any, outputs: Any, name: str) -> Any:
    import keras

    return keras.Model(image, outputs, name=name)


def _with_graph(model: Any) -> Any:
    """Return a model with a graph whose input and outputs are plain tensors, not lists or dictionaries of one.

    A subclassed model is called on a symbolic input.
    """
    import keras

    if is_model(model):
        inner = graph(model)
        plain = all(isinstance(part, keras.KerasTensor) for part in (inner._inputs_struct, inner._outputs_struct))
        if plain or len(inner.inputs) != 1:
            return _named_inputs(model)
        outputs = inner.outputs[0] if len(inner.outputs) == 1 else inner.outputs
        return keras.Model(inner.inputs[0], outputs, name=model.name)
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    shape = next(iter(shapes.values()), None)
    if len(shapes) != 1 or not isinstance(shape, (tuple, list)) or len(shape) != 4:
        raise UsageError(
            f"the input shape of the model {model.name} is unknown",
            hint="call it on keras.Input((height, width, 3)), and save keras.Model(inputs, outputs)",
            code="not-an-image",
        )
    image = keras.Input(tuple(shape[1:]), name="image")
    return keras.Model(image, model(image, training=False), name=model.name)


def _named_inputs(model: Any) -> Any:
    """Return a model whose inputs are a list; inputs that were a dictionary have its keys as their names."""
    import keras

    inner = graph(model)
    structure = inner._inputs_struct
    if not isinstance(structure, (dict, tuple)):
        return model
    names = keras_names(inner.inputs, structure)
    fresh = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
        for name, tensor in zip(names, inner.inputs, strict=True)
    ]
    return _model(fresh, inner._run_through_graph(fresh), model.name)


def _without_unused(model: Any) -> tuple[Any, list[str]]:
    """Return a model without the inputs that no output depends on, such as labels for a loss, and notes on them."""
    inner = graph(model) if is_model(model) else None
    if inner is None or len(inner.inputs) < 2:
        return model, []
    needed = {id(tensor) for tensor in inner.outputs}
    for call in reversed(list(calls(model))):
        if any(id(tensor) in needed for tensor in call.output_tensors):
            needed.update(id(tensor) for tensor in call.input_tensors)
    used = [tensor for tensor in inner.inputs if id(tensor) in needed]
    if len(used) in (0, len(inner.inputs)):
        return model, []
    left = [name for name, t in zip(keras_names(inner.inputs, None), inner.inputs, strict=True) if id(t) not in needed]
    note = f"no output depends on the inputs {', '.join(left)}: the bundle leaves them out"
    outputs = inner.outputs[0] if len(inner.outputs) == 1 else inner.outputs
    return _model(used[0] if len(used) == 1 else used, outputs, model.name), [note]


def _with_channels(model: Any, inputs: Sequence[UserInput]) -> Any:
    """Return a model whose gray pictures (height, width) have an axis of channels."""
    import keras

    inner = graph(model)
    if all(len(tensor.shape) != 3 or not each.is_picture for tensor, each in zip(inner.inputs, inputs, strict=True)):
        return model
    fresh, values = [], []
    for tensor, each in zip(inner.inputs, inputs, strict=True):
        flat = each.is_picture and len(tensor.shape) == 3
        fresh.append(keras.Input(each.shape, name=tensor._keras_history.operation.name))
        values.append(keras.layers.Reshape(each.shape[:2], name=f"{each.name}_gray")(fresh[-1]) if flat else fresh[-1])
    return _model(fresh[0] if len(fresh) == 1 else fresh, inner._run_through_graph(values), model.name)


def select_output(model: keras.Model, layer: str | None) -> keras.Model:
    """Return ``model`` up to ``layer``, with shared weights.

    Parameters
    ----------
    model : keras.Model
        Functional or Sequential.
    layer : str | None
        Name of a layer or operation, or ``inner/block_3`` for one of a nested model; a unique name needs no path. None
        keeps the model's outputs.

    Raises
    ------
    UsageError
        ``unknown-layer``: no layer of that name, or several. ``shared-layer``: the layer is called more than once, or
        outputs several tensors.
    """
    if layer is None:
        return model
    path = _path(model, layer)
    if path == layer_of_output(model):
        return model
    return _cut(model, path.split("/"), layer)


def layer_of_output(model: keras.Model) -> str | None:
    """Return the name of the layer of the model's only output; None if it has several."""
    outputs = graph(model).outputs
    return outputs[0]._keras_history.operation.name if len(outputs) == 1 else None


def _path(model: Any, layer: str) -> str:
    paths = list(dict.fromkeys(path for path, _ in layer_paths(model)))
    if layer in paths:
        return layer
    inside = [path for path in paths if path.rpartition("/")[2] == layer]
    if len(inside) == 1:
        return inside[0]
    close = inside or difflib.get_close_matches(layer, paths, n=4, cutoff=0.5)
    raise UsageError(
        f"the model {model.name} has {'several layers' if inside else 'no layer'} called {layer!r}",
        hint=f"did you mean {', '.join(close)}?" if close else f"its last layers are {', '.join(paths[-5:])}",
        code="unknown-layer",
    )


def _cut(model: Any, path: list[str], asked: str) -> Any:
    import keras

    uses = [call for call in calls(model) if call.operation.name == path[0]]
    if len(uses) != 1 or (len(path) == 1 and len(uses[0].output_tensors) != 1):
        problem = f"is called {len(uses)} times" if len(uses) != 1 else "outputs several tensors"
        raise UsageError(
            f"the layer {asked} {problem}, so --output-layer is ambiguous",
            hint="choose a layer before or after it: --output-layer NAME",
            code="shared-layer",
        )
    call = uses[0]
    if len(path) == 1:
        return keras.Model(single_input(model), call.output_tensors[0], name=model.name)
    assert is_model(call.operation)
    inner = _cut(call.operation, path[1:], asked)
    tensors = call.input_tensors
    return keras.Model(single_input(model), inner(tensors[0] if len(tensors) == 1 else tensors), name=model.name)
