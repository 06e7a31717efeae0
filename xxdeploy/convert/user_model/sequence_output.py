"""The output of a model that reads texts, and its pictures, whose rows and columns may be exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xxdeploy.convert.user_model.describe import UserModel, last_activation
from xxdeploy.errors import UsageError
from xxdeploy.results import ModelOutput


def sequence_outputs(tensors: Sequence[Any], described: UserModel) -> tuple[list[tuple[Any, ModelOutput]], list[str]]:
    """Return each last tensor with its description, and notes: the first (steps, classes) is a sequence.

    The other outputs are features. ``UsageError`` ``not-a-sequence``: none is so, or it is no softmax.
    """
    shaped = [
        index
        for index, end in enumerate(described.outputs)
        if len(end.shape) == 2 and None not in end.shape and end.shape[1] != 1
    ]
    shapes = ", ".join(f"{end.name} {end.shape}" for end in described.outputs)
    if not shaped:
        raise UsageError(
            f"--task sequence: no output of the model {described.name} is (steps, classes): {shapes}",
            hint="name the layer with the softmax over the characters: --output-layer NAME",
            code="not-a-sequence",
        )
    first = shaped[0]
    tensor, end, notes = tensors[first], described.outputs[first], list[str]()
    activation = last_activation(tensor)
    if activation in ("linear", "none"):
        import keras

        tensor = keras.layers.Softmax(name=f"{end.name}_probabilities")(tensor)
        notes.append(f"{end.name} outputs logits: a Softmax was added, so the bundle returns probabilities")
    elif activation != "softmax":
        raise UsageError(
            f"--task sequence: {end.name} ends in {activation}, not in a softmax over the characters",
            hint="name the layer with the softmax: --output-layer NAME; or export it with --task features",
            code="not-a-sequence",
        )
    steps, classes = end.shape
    assert steps is not None
    finished = [(other, ModelOutput("features", None)) for other in tensors]
    finished[first] = tensor, ModelOutput("steps", classes, "sequence", (steps, classes or 0))
    return finished, notes


def exchanged(model: Any, described: UserModel) -> tuple[Any, UserModel]:
    """Return a model for pictures as they are, of one that takes them with rows and columns exchanged.

    ``UsageError`` ``not-one-picture``.
    """
    import keras

    rows, columns, channels = described.picture.shape[:3]
    image = keras.Input((columns, rows, channels), name="image")
    turned = keras.layers.Permute((2, 1, 3), name="transpose")(image)
    changed = keras.Model(image, model(turned), name=model.name)
    return changed, replace(described, inputs=(replace(described.picture, shape=(columns, rows, channels)),))


def about_orientation(described: UserModel) -> list[str]:
    """Return a warning if the pictures are taller than wide: texts are wide."""
    tall = [
        f"{each.shape[1]} x {each.shape[0]}"
        for each in described.inputs
        if each.is_picture and each.shape[0] > each.shape[1]
    ]
    return [
        f"WARNING: the model takes pictures of {size} pixels (width x height), and texts are wide: if rows and columns "
        "were exchanged in training, as in keras.io's example, add --transpose"
        for size in tall
    ]
