"""One layer's result as the result of the model: ``--output-layer block4_pool``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.layers import calls, graph, is_model, layer_paths, single_input
from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    import keras


def select_output(model: keras.Model, layer: str | None) -> keras.Model:
    """Return ``model`` up to ``layer``; the weights are shared with it, not copied.

    Parameters
    ----------
    model : keras.Model
        Functional or Sequential.
    layer : str | None
        Name of a layer or operation, or ``inner/block_3`` for one inside a model inside; a name that only one layer
        has needs no path. None takes the model's own outputs.

    Raises
    ------
    UsageError
        ``unknown-layer``: no layer of that name, or several. ``shared-layer``: the layer is called more than once, or
        gives several tensors.
    """
    if layer is None:
        return model
    path = _path(model, layer)
    if path == layer_of_output(model):
        return model
    return _cut(model, path.split("/"), layer)


def layer_of_output(model: keras.Model) -> str | None:
    """Return the name of the layer that makes the model's only output; None if it has several."""
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

    found = [call for call in calls(model) if call.operation.name == path[0]]
    if len(found) != 1 or (len(path) == 1 and len(found[0].output_tensors) != 1):
        what = f"is called {len(found)} times" if len(found) != 1 else "gives several tensors"
        raise UsageError(
            f"the layer {asked} {what}, so that its output is not one",
            hint="take a layer in front of it or behind it: --output-layer NAME",
            code="shared-layer",
        )
    call = found[0]
    if len(path) == 1:
        return keras.Model(single_input(model), call.output_tensors[0], name=model.name)
    assert is_model(call.operation)
    inner = _cut(call.operation, path[1:], asked)
    tensors = call.input_tensors
    return keras.Model(single_input(model), inner(tensors[0] if len(tensors) == 1 else tensors), name=model.name)
