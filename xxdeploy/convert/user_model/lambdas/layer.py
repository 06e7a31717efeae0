"""The layer that computes a translated Lambda. Importing this module imports Keras."""

from __future__ import annotations

from typing import Any

from xxdeploy.convert.user_model.lambdas.tree import INPUT, SAME_NAME, Node, json_from_tree, tree_from_json
from xxdeploy.optional import extra

with extra("export"):
    import keras

_SCALING = frozenset({"add", "divide", "multiply", "negative", "power", "subtract"})
_OF_PIXELS = _SCALING | {INPUT, "clip", "flip", "getitem", "pad", "resize", "transpose", "upsample"}


class TranslatedLambda(keras.layers.Layer):  # type: ignore[misc]
    """Compute an expression of known operations, in float32: the meaning of a Lambda layer.

    ``expression`` is the JSON of ``tree.json_from_tree``; other data is an ``UnknownCodeError``, which is a
    ``ValueError``. The layer takes a tensor ``(n, ...)``, or a list of them, and never mixes the images of a batch.
    """

    def __init__(self, expression: Any, **options: Any) -> None:
        super().__init__(**options)
        self.tree = tree_from_json(expression)

    @property
    def passes_pixels(self) -> bool:
        """Whether the result is the pixels of its input, moved, resized or scaled."""
        return all(node.op in _OF_PIXELS for node in self.tree.walk())

    @property
    def scales_pixels(self) -> bool:
        """Whether that contains arithmetic, as the scaling of pixels does."""
        return self.passes_pixels and any(node.op in _SCALING for node in self.tree.walk())

    def call(self, inputs: Any) -> Any:
        """Return the value of the expression."""
        return _value(self.tree, list(inputs) if isinstance(inputs, (list, tuple)) else [inputs])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for saving."""
        return {**super().get_config(), "expression": json_from_tree(self.tree)}


def _value(node: Any, tensors: list[Any]) -> Any:
    if not isinstance(node, Node):
        return keras.ops.convert_to_tensor(node, dtype="float32") if isinstance(node, tuple) else node
    if node.op == INPUT:
        return tensors[node.options["index"]]
    values = [_value(item, tensors) for item in node.inputs]
    options = dict(node.options)
    _refuse_batch_axis(node.op, options, len(values[0].shape) if hasattr(values[0], "shape") else 0)
    if node.op == "getitem":
        return values[0][_subscript(options["index"], len(values[0].shape))]
    if node.op == "resize":
        return keras.ops.image.resize(values[0], **options, data_format="channels_last")
    if node.op == "upsample":
        (rows, columns), (height, width) = options["factors"], values[0].shape[1:3]
        size = (height * rows, width * columns)
        return keras.ops.image.resize(
            values[0], size, interpolation=options["interpolation"], data_format="channels_last"
        )
    if node.op == "rgb_to_grayscale":
        return keras.ops.image.rgb_to_grayscale(values[0], data_format="channels_last")
    if node.op in ("concatenate", "stack"):
        return getattr(keras.ops, node.op)(values, **options)
    if node.op in ("depth_to_space", "space_to_depth"):
        return getattr(keras.ops, node.op)(values[0], **options, data_format="channels_last")
    assert node.op in SAME_NAME  # Node has seen to it
    return getattr(keras.ops, node.op)(*values, **options)


def _refuse_batch_axis(op: str, options: dict[str, Any], rank: int) -> None:
    axes = options.get("axis")
    rank += op in ("expand_dims", "stack")
    for axis in axes if isinstance(axes, list) else [axes]:
        if isinstance(axis, int) and axis % max(rank, 1) == 0:
            raise ValueError(f"{op} along axis {axis} of a tensor with {rank} axes mixes the images of a batch")


def _subscript(parts: list[Any], rank: int) -> tuple[Any, ...]:
    if parts[0] == "..." and len(parts) > rank:
        raise ValueError("the index takes images out of the batch")
    return tuple(Ellipsis if part == "..." else slice(*part) if isinstance(part, list) else part for part in parts)
