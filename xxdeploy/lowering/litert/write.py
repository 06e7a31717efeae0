"""Write an ONNX graph as a LiteRT file: NHWC, batch 1, the same integers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from xxdeploy.lowering.litert import elementwise, functions, layers, moves, pools
from xxdeploy.lowering.litert.flat import HALF_FROM, FlatModel
from xxdeploy.lowering.litert.metadata import NAME, About, metadata_of, with_labels
from xxdeploy.lowering.litert.values import Pair, Values, refuse
from xxdeploy.lowering.uint8_channels import take_uint8_channels
from xxdeploy.onnxmodel.graph import Graph, attribute
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.image.grid import METADATA, MIDDLE, ChannelGrid, Grid, PixelGrid

Writer = Callable[[Values, NodeProto], None]


def to_litert(model: OnnxModel, grid: Grid | None = None, *, half: bool = False, about: About | None = None) -> bytes:
    """Return ``model`` (float32, or INT8 in Q/DQ pairs) as a ``.tflite`` file with a batch of one.

    The picture goes in as (1, height, width, channels): uint8 if ``grid`` says how a pixel is scaled and the model's
    first integers are the pixels, else float32. Each output has the shape of the ONNX graph's, float32. Unsigned
    integers become signed ones, 128 lower. ``half`` stores large float constants in float16 where that loses nothing,
    as in a model of :func:`with_half_weights`. ``about`` is written as the metadata of the Task Library.

    Raises ``ConversionError`` (``litert-operator``: a layer has no form in LiteRT here; ``litert-shape``).
    """
    if isinstance(grid, ChannelGrid):
        model = take_uint8_channels(model, grid)
    graph = Graph(model)
    for value in graph.header.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph.forget_shapes()
    graph.drop_indices()
    _fold(graph)
    values = Values(graph, FlatModel(half=half))
    inputs = {}
    for name in graph.inputs:
        pixels = None
        if graph.types().get(name) == TensorProto.UINT8 and isinstance(grid, ChannelGrid):
            pixels = _picture(values, name, name, Pair(1.0, MIDDLE - 128), grid.to_json())
        elif isinstance(grid, PixelGrid) and len(graph.inputs) == 1:
            pixels = _pixels(values, name, grid)
        inputs[name] = _input(values, name) if pixels is None else pixels
    for node in graph.nodes:
        if values.absorbed.issuperset(node.output):
            continue
        if node.op_type not in WRITERS:
            raise refuse(node, "it is not among the operators that xxdeploy writes")
        WRITERS[node.op_type](values, node)
    outputs = {name: values.real(name, tuple(range(len(values.shape(name))))).index for name in graph.outputs}
    for name, index in outputs.items():
        values.flat.tensors[index].name = name
    if about is None:
        return values.flat.to_bytes(inputs, outputs)
    ends = ([values.flat.info(index) for index in indices.values()] for indices in (inputs, outputs))
    values.flat.metadata(NAME, metadata_of(about, *ends))
    flat = values.flat.to_bytes(inputs, outputs)
    return with_labels(flat, about.labels) if about.labels else flat


def with_half_weights(model: OnnxModel) -> OnnxModel:
    """Return a float model whose large weights are rounded to float16, but for those that it cannot hold."""
    graph = Graph(model)
    for name, array in graph.arrays.items():
        if array.dtype == np.float32 and array.size >= HALF_FROM and np.abs(array).max() <= np.finfo(np.float16).max:
            graph.arrays[name] = array.astype(np.float16).astype(np.float32)
    return graph.to_model()


def _pixels(values: Values, name: str, grid: PixelGrid) -> int | None:
    """Write a uint8 input if the integers that ``name`` is rounded to are its pixels; return it, or None.

    The Sub of ``center_pixels.shift_input`` between the two moves all pixels alike, so it is only another zero point.
    """
    graph, shift = values.graph, 0.0
    node = graph.only_consumer(name)
    passed: list[str] = []
    if node is not None and node.op_type == "Sub" and node.input[1] in graph.constants:
        shift = float(np.ravel(graph.constants[node.input[1]])[0])
        if graph.constants[node.input[1]].size != 1:
            return None
        passed = list(node.output)
        node = graph.only_consumer(node.output[0])
    if node is None or node.op_type != "QuantizeLinear":
        return None
    pair = values.parameters(node)
    pixels = np.arange(256)
    scaled = ((pixels - grid.center) * grid.step - shift) / pair.scale
    if np.abs(scaled + pair.zero_point + 128 - pixels).max() > _CLOSE:
        return None
    values.absorbed.update([*passed, *node.output])
    return _picture(values, name, node.output[0], pair, {"step": grid.step, "centre": grid.center})


def _picture(values: Values, name: str, integers: str, pair: Pair, grid: Mapping[str, object]) -> int:
    """Write a uint8 input of the pixels, which 128 lower are the ``integers`` of ``pair``, and note their scaling.

    They go through float, which gives each pixel its own integer: XNNPACK has no QUANTIZE from uint8 to int8, and
    LiteRT's own takes 4 times the instructions on ARM and 7 times the time on x86.
    """
    shape = values.shape(name)
    index = values.flat.tensor(name, shape, "uint8", Pair(pair.scale, pair.zero_point + 128).table)
    order = tuple(range(len(shape)))
    real, out = values.new(f"{name}/real", shape, order), values.new(f"{name}/signed", shape, order, pair)
    values.flat.operator("DEQUANTIZE", [index], [real.index], 2)
    values.flat.operator("QUANTIZE", [real.index], [out.index], 2)
    values.keep(integers, out)
    values.flat.metadata(METADATA, json.dumps(grid).encode())
    return index


_CLOSE = 0.05
"""By how much a pixel may miss its integer: far from the half step at which rounding would change it."""


def _fold(graph: Graph) -> None:
    """Compute what is constant once the batch is one: shapes, and what is computed from them."""
    shapes = graph.shapes()
    kept = []
    for node in graph.nodes:
        if node.op_type == "Shape" and None not in shapes.get(node.input[0], (None,)):
            whole = shapes[node.input[0]][attribute(node, "start", 0) : attribute(node, "end", None)]
            graph.arrays[node.output[0]] = np.array(whole, np.int64)
        elif node.input and node.op_type not in _KEPT and all(n in graph.arrays for n in node.input if n):
            _compute(graph, node)
        else:
            if node.op_type == "Constant":
                graph.arrays[node.output[0]] = graph.constants[node.output[0]]
                continue
            kept.append(node)
    graph.nodes = kept


def _compute(graph: Graph, node: NodeProto) -> None:
    """Add the results of a node whose operands are constants to the graph's arrays."""
    feeds = {name: graph.arrays[name] for name in node.input if name}
    given, made = ([helper.make_empty_tensor_value_info(n) for n in names if n] for names in (feeds, node.output))
    body = helper.make_graph([node], "constant", given, made)
    results = ReferenceEvaluator(body, opsets={"": graph.opset}).run(None, feeds)
    for value, result in zip(made, results, strict=True):
        graph.arrays[value.name] = np.asarray(result)


_KEPT = frozenset(["QuantizeLinear", "DequantizeLinear", "Bernoulli", "RandomNormalLike", "RandomUniformLike"])
"""Operators that are not computed here though their operands are constants: pairs of weights, and random numbers."""


def _input(values: Values, name: str) -> int:
    shape = values.shape(name)
    value = values.keep(name, values.new(name, shape, tuple(range(len(shape)))))
    return value.index


def _quantize(values: Values, node: NodeProto) -> None:
    """Round a float tensor, or a constant, to integers."""
    pair = values.parameters(node)
    if values.pair_of(node.input[0]) is not None:
        x = values.integer(node.input[0])
        if x.pair == pair:
            values.keep(node.output[0], x)
            return
    else:
        x = values.real(node.input[0])
    out = values.new(node.output[0], x.shape, x.order, pair)
    values.flat.operator("QUANTIZE", [x.index], [out.index], 2)
    values.keep(node.output[0], out)


def _dequantize(values: Values, node: NodeProto) -> None:
    """Nothing: a reader takes the integers, or asks for them in float."""


WRITERS: Mapping[str, Writer] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "Gemm": layers.dense,
    "MatMul": layers.dense,
    "MaxPool": pools.max_pool,
    "AveragePool": pools.average_pool,
    "GlobalAveragePool": pools.global_pool,
    "GlobalMaxPool": pools.global_pool,
    "ReduceMean": pools.reduce,
    "ReduceSum": pools.reduce,
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceProd"), pools.reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), functions.arg_extreme),
    "Einsum": functions.einsum,
    "TopK": functions.top_k,
    "OneHot": functions.one_hot,
    "CumSum": functions.cumulative_sum,
    "IsNaN": functions.is_nan,
    "LRN": functions.lrn,
    "ReverseSequence": moves.reverse_sequence,
    "Resize": pools.resize,
    **dict.fromkeys(("Add", "Sum", "Sub", "Mul", "Div", "Max", "Min", "Pow"), elementwise.binary),
    **dict.fromkeys(
        (
            "Sigmoid",
            "Tanh",
            "Exp",
            "Log",
            "Sqrt",
            "Abs",
            "Neg",
            "Floor",
            "Ceil",
            "Round",
            "Sign",
            "HardSwish",
            "Cos",
            "Sin",
        ),
        elementwise.unary,
    ),
    "Relu": elementwise.clip,
    "Clip": elementwise.clip,
    "LeakyRelu": elementwise.leaky,
    "PRelu": elementwise.prelu,
    **dict.fromkeys(("Elu", "Selu", "Celu"), functions.selu),
    "Softplus": functions.softplus,
    "Softsign": functions.softsign,
    "ThresholdedRelu": functions.thresholded_relu,
    "Erf": functions.erf,
    "BatchNormalization": functions.batch_norm,
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or"), functions.compare),
    "Not": functions.logical_not,
    "Where": functions.where,
    "Cast": functions.cast,
    **dict.fromkeys(("Tile", "Expand"), functions.tile),
    "Gelu": elementwise.gelu,
    "HardSigmoid": elementwise.hard_sigmoid,
    "Reciprocal": elementwise.reciprocal,
    **dict.fromkeys(("Softmax", "LogSoftmax"), elementwise.softmax),
    "Transpose": moves.transpose,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), moves.reshape),
    "Concat": moves.concat,
    "Pad": moves.pad,
    "Slice": moves.slices,
    "Split": moves.split,
    "Gather": moves.gather,
    "DepthToSpace": moves.depth_to_space,
    "SpaceToDepth": moves.space_to_depth,
    "Identity": moves.identity,
}
"""How each operator of ONNX is written."""
