"""Convert Keras to ONNX through tf2onnx; the weights bypass tf2onnx.

The traced graph has placeholders for its weights (``trace``), so tf2onnx sees a few thousand small nodes. Its own
optimizers are skipped: they compare and copy each constant repeatedly, and spend most of their time moving transposes,
which ``passes`` does in one pass over the graph.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.recurrent import OPERATION, write_node
from xxdeploy.convert.trace import Trace, trace
from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra

if TYPE_CHECKING:
    import onnx

OPSET = 17
"""At opset 18 tf2onnx misses ReduceMean as global pooling; all engines of the last four years read opset 17."""
IR_VERSION = 8
"""The IR version of opset 17, which old engines on devices read."""
PRODUCER = "xxdeploy"
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def onnx_from_keras(
    model: Any,
    *,
    inputs: Sequence[str] = ("image",),
    outputs: Sequence[str] = ("probabilities",),
    opset: int = OPSET,
) -> OnnxModel:
    """Convert a built ``keras.Model`` to ONNX, float32.

    ``inputs`` and ``outputs`` name the inputs, of shape ``(batch, h, w, c)`` (NHWC) or ``(batch, ...)``, and the
    outputs. The batch axis is free and called ``batch``. Nodes and tensors have the names of their Keras layers. The
    graph is not optimized: ``passes.optimize`` does that. Its weights are views of the model's variables, so assign no
    other values to these before it is optimized or serialized.

    Raises
    ------
    ConversionError
        ``unsupported-operator``: a layer has no ONNX operator. ``output-names``, ``input-names``: the number of names
        differs from the number of outputs or inputs. ``conversion``: Keras or tf2onnx refuse the model for another
        reason.
    """
    traced = _trace(model)
    if len(outputs) != len(traced.outputs):
        raise ConversionError(
            f"the model has {len(traced.outputs)} outputs, and {len(outputs)} names are given",
            hint="give one name per output",
            code="output-names",
        )
    if len(inputs) != len(traced.inputs):
        raise ConversionError(
            f"the model has {len(traced.inputs)} inputs, and {len(inputs)} names are given",
            hint="give one name per input",
            code="input-names",
        )
    proto = _convert(traced, opset)
    names = dict(zip((*traced.inputs, *traced.outputs), (*inputs, *outputs), strict=True))
    _name_by_layer(proto, _layer_names(model), names)
    weights = {name: array for name, array in traced.weights.items() if name in _used(proto)}
    kept = [value for value in proto.graph.input if value.name not in traced.weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    _free_batch(proto.graph.input)
    _free_batch(proto.graph.output)
    _check_domains(proto.graph.node)
    return OnnxModel.of_parts(*_lift(proto, weights))


def _trace(model: Any) -> Trace:
    try:
        return trace(model)
    except (TypeError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error.__context__, ConversionError):  # Keras replaces an error that a layer raises
            raise error.__context__ from None
        raise ConversionError(
            f"Keras could not trace the model for inference: {_first_line(error)}",
            hint="the model must be built, and callable on a batch of images with training=False",
        ) from error


def _convert(traced: Trace, opset: int) -> onnx.ModelProto:
    with extra("export"):
        from tf2onnx import tfonnx
    names = [*traced.inputs, *traced.weights]
    try:
        with _quiet("tf2onnx"):
            graph = tfonnx.process_tf_graph(
                traced.graph,
                opset=opset,
                input_names=names,
                output_names=list(traced.outputs),
                custom_op_handlers={OPERATION: (write_node, [])},
            )
            proto: onnx.ModelProto = graph.make_model(PRODUCER)
    except Exception as error:  # tf2onnx raises errors of any class
        raise ConversionError(
            f"tf2onnx could not convert the graph: {_first_line(error)}",
            hint="a layer of the model has no ONNX operator: replace it, or report the model",
            code="unsupported-operator",
        ) from error
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version = PRODUCER, ""
    proto.doc_string = proto.graph.doc_string = ""
    proto.graph.name = PRODUCER
    del proto.opset_import[1:]
    proto.opset_import[0].domain, proto.opset_import[0].version = "", opset
    return proto


def _layer_names(model: Any) -> dict[str, bool]:
    """Map the name of each layer inside ``model`` to whether it contains other layers."""
    return {
        layer.name: len(list(layer._flatten_layers())) > 1 for layer in model._flatten_layers() if layer is not model
    }


def _name_by_layer(proto: onnx.ModelProto, layers: dict[str, bool], fixed: dict[str, str]) -> None:
    """Rename each tensor to ``layer/operation``; ``fixed`` has the names of inputs and outputs."""
    taken = set(fixed.values())
    names: dict[str, str] = dict(fixed)
    for node in proto.graph.node:
        base = _layer_path(node.name, layers) or "graph"
        for index, output in enumerate(node.output):
            if not output or output in names:
                continue
            stem = f"{base}/{node.op_type}" + (f".{index}" if index else "")
            name, count = stem, 1
            while name in taken:
                count += 1
                name = f"{stem}_{count}"
            taken.add(name)
            names[output] = name
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = node.output[0]
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = names.get(value.name, value.name)
    del proto.graph.value_info[:]


def _layer_path(name: str, layers: dict[str, bool]) -> str:
    """Return the Keras layer in a TensorFlow scope: ``inner/conv1`` for ``net_1/inner/conv1_1/convolution__8``."""
    path = []
    for part in name.split("/"):
        plain = re.sub(r"_\d+$", "", part)  # scopes are made unique by a suffix
        layer = part if part in layers else plain if plain in layers else None
        if layer is not None:
            path.append(layer)
            if not layers[layer]:
                break  # the rest names an operation, which may have the name of another layer
    return "/".join(path)


def _used(proto: onnx.ModelProto) -> frozenset[str]:
    return frozenset(name for node in proto.graph.node for name in node.input)


def _lift(proto: onnx.ModelProto, weights: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Move tf2onnx's own initializers from the graph to the weights."""
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    del proto.graph.initializer[:]
    return proto, {**arrays, **weights}


def _free_batch(values: Iterable[Any]) -> None:
    for value in values:
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].Clear()
            value.type.tensor_type.shape.dim[0].dim_param = "batch"


def _check_domains(nodes: Iterable[Any]) -> None:
    import onnx

    for node in nodes:
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, OPSET):
            raise ConversionError(
                f"the layer of node {node.name!r} became {node.domain}:{node.op_type}, which is not an ONNX operator",
                hint="replace the layer by one with an ONNX operator, or report the model",
                code="unsupported-operator",
            )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a library's log within this context; its errors arrive as exceptions."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _first_line(error: Exception) -> str:
    """Return the first line of a message, and after Keras' "Exception encountered when calling ..." the reason."""
    lines = [line for raw in str(error).splitlines() if (line := _COLORS.sub("", raw).strip())]
    if not lines:
        return type(error).__name__
    return " ".join(lines[: 2 if lines[0].startswith("Exception encountered") else 1])[:300]
