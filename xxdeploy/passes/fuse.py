"""Replace groups of nodes that tf2onnx writes by the one ONNX operator that engines have a kernel for."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from xxdeploy.onnxmodel.graph import Graph, attribute, per_channel, set_attribute

_POOLS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}
_FLATTENING = ("Flatten", "Reshape", "Squeeze")
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def fuse_clip(graph: Graph) -> int:
    """Write ``Min(Max(x, a), b)``, ``Min(Relu(x), b)`` and ``Clip(Relu(x), 0, b)`` as one Clip; return how many."""
    producers, consumers, shapes = graph.producers(), graph.consumers(), graph.shapes()
    gone = []
    for node in graph.nodes:
        if node.op_type not in ("Min", "Clip"):
            continue
        source, high = _bound(graph, node)
        before = producers.get(source) if source else None
        if source is None or before is None or high is None or source in graph.kept or len(consumers[source]) != 1:
            continue
        source, low = (before.input[0], 0.0) if before.op_type == "Relu" else _bound(graph, before, "Max")
        if source is None or low is None or low > high:
            continue
        if source not in shapes or len(shapes[source]) != len(shapes.get(node.output[0], ())):
            continue  # a bound of shape (1, 1, ...) may add axes, which Clip does not
        if node.op_type == "Clip" and (before.op_type != "Relu" or _lower(graph, node) > 0):
            continue
        bounds = [
            graph.add_array(f"{node.name}/{side}", np.asarray(value, np.float32))
            for side, value in (("low", low), ("high", high))
        ]
        node.op_type = "Clip"
        node.input[:] = [source, *bounds]
        gone.append(before)
    graph.remove(gone)
    return len(gone)


def _bound(graph: Graph, node: onnx.NodeProto, kind: str | None = None) -> tuple[str | None, float | None]:
    """Return source and scalar bound of a Min, Max or (upper) Clip."""
    if kind and node.op_type != kind:
        return None, None
    if node.op_type == "Clip":
        array = graph.arrays.get(node.input[2]) if len(node.input) > 2 else None
        return node.input[0], None if array is None or array.dtype != np.float32 else array.item()
    if len(node.input) != 2:
        return None, None
    for source, bound in (tuple(node.input), tuple(reversed(node.input))):
        array = graph.arrays.get(bound)
        if array is not None and array.size == 1 and array.dtype == np.float32 and source not in graph.arrays:
            return source, array.item()
    return None, None


def _lower(graph: Graph, node: onnx.NodeProto) -> float:
    if len(node.input) < 2 or not node.input[1]:
        return -np.inf
    array = graph.arrays.get(node.input[1])
    return np.inf if array is None else float(array.item())  # a computed bound can have any value


def fuse_hard_sigmoid(graph: Graph) -> int:
    """Write ``Clip(x + a, 0, b) / b`` as one HardSigmoid; return how many (Howard et al. 2019, arXiv:1905.02244)."""
    producers = graph.producers()
    count = 0
    for node in graph.nodes:
        factor = {"Div": lambda value: 1 / value, "Mul": lambda value: value}.get(node.op_type)
        clipped, value = _number(graph, node)
        clip = producers.get(clipped) if clipped else None
        if factor is None or clip is None or clip.op_type != "Clip" or graph.only_consumer(clip.output[0]) is not node:
            continue
        shifted, high = producers.get(clip.input[0]), _bound(graph, clip)[1]
        source, shift = _number(graph, shifted) if shifted is not None and shifted.op_type == "Add" else (None, 0.0)
        if source is None or high is None or _lower(graph, clip) != 0 or not value:
            continue
        slope = factor(value)
        if abs(slope * high - 1) > 1e-6 or graph.only_consumer(clip.input[0]) is not clip:
            continue
        made = onnx.helper.make_node(
            "HardSigmoid", [source], [node.output[0]], name=node.name, alpha=1 / high, beta=shift / high
        )
        node.CopyFrom(made)
        count += 1
    graph.drop_indices()
    return count


def _number(graph: Graph, node: onnx.NodeProto) -> tuple[str | None, float]:
    """Return the data and the one number that a Mul, Div or Add combines; a divisor is the second operand."""
    if len(node.input) == 2:
        for data, constant in (tuple(node.input), tuple(reversed(node.input)))[: 1 if node.op_type == "Div" else 2]:
            array = graph.arrays.get(constant)
            if array is not None and array.ndim == 0 and array.dtype == np.float32 and data not in graph.arrays:
                return data, float(array)
    return None, 0.0


def fuse_global_pool(graph: Graph) -> int:
    """Write a mean (or maximum) over height and width as GlobalAveragePool (GlobalMaxPool); return how many."""
    shapes, kinds = graph.shapes(), graph.types()
    count = 0
    nodes: list[onnx.NodeProto] = []
    for node in graph.nodes:
        nodes.append(node)
        if node.op_type not in _POOLS or len(shapes.get(node.input[0], ())) != 4:
            continue
        if sorted(axis % 4 for axis in attribute(node, "axes", [])) != [2, 3] or kinds[node.input[0]] not in _FLOATS:
            continue
        keep = attribute(node, "keepdims", 1)
        output = node.output[0] if keep else graph.fresh(f"{node.output[0]}/pooled")
        nodes[-1] = onnx.helper.make_node(_POOLS[node.op_type], [node.input[0]], [output], name=node.name)
        if not keep:
            nodes.append(onnx.helper.make_node("Flatten", [output], [node.output[0]], name=f"{node.name}/flat", axis=1))
        count += 1
    graph.nodes = nodes
    return count


def fuse_gemm(graph: Graph) -> int:
    """Write a dense layer, MatMul and bias, as one Gemm; return how many."""
    producers, consumers, shapes = graph.producers(), graph.consumers(), graph.shapes()
    gone = []
    for node in graph.nodes:
        if node.op_type != "Add":
            continue
        for source, constant in (tuple(node.input), tuple(reversed(node.input))):
            product, bias = producers.get(source), graph.arrays.get(constant)
            if product is None or product.op_type != "MatMul" or bias is None or len(consumers[source]) != 1:
                continue
            weight = graph.arrays.get(product.input[1])
            if weight is None or weight.ndim != 2 or len(shapes.get(product.input[0], ())) != 2 or source in graph.kept:
                continue
            vector = per_channel(bias, weight.shape[1], 2)
            if vector is None:
                continue
            name = graph.add_array(f"{product.name}/bias", vector)
            node.op_type, node.name = "Gemm", product.name
            node.input[:] = [*product.input, name]
            gone.append(product)
            break
    graph.remove(gone)
    return len(gone)


def fuse_batch_norm(graph: Graph) -> int:
    """Write a per-channel Mul and Add without a layer to fold into as one BatchNormalization; return how many."""
    producers, consumers, shapes = graph.producers(), graph.consumers(), graph.shapes()
    gone = []
    for node in graph.nodes:
        shape = shapes.get(node.output[0])
        if node.op_type != "Add" or shape is None or len(shape) != 4 or shape[1] is None:
            continue
        source = next((name for name in node.input if name not in graph.arrays), None)
        scaled = producers.get(source) if source else None
        if scaled is None or scaled.op_type != "Mul" or source in graph.kept or len(consumers[source or ""]) != 1:
            continue
        shift, scale = _factor(graph, node, shape[1]), _factor(graph, scaled, shape[1])
        source = next((name for name in scaled.input if name not in graph.arrays), None)
        if shift is None or scale is None or source is None or shapes.get(source, ())[1:] != shape[1:]:
            continue  # (the last: the Mul may spread one channel over many)
        zeros, ones = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
        values = {"scale": scale, "shift": shift, "mean": zeros, "variance": ones}
        names = [graph.add_array(f"{node.name}/{key}", value) for key, value in values.items()]
        output = node.output[0]
        node.CopyFrom(
            onnx.helper.make_node("BatchNormalization", [source, *names], [output], name=node.name, epsilon=0.0)
        )
        gone.append(scaled)
    graph.remove(gone)
    return len(gone)


def _factor(graph: Graph, node: onnx.NodeProto, channels: int) -> NDArray[np.float32] | None:
    constants = [graph.arrays[name] for name in node.input if name in graph.arrays]
    if len(constants) != 1 or constants[0].size == 1:
        return None
    return per_channel(constants[0], channels, 4)


def fuse_pooled_gemm(graph: Graph) -> int:
    """Turn pool, 1x1 Conv, flatten into pool, flatten, Gemm; return how many.

    Keras' MobileNet classifies with a convolution over one position. A Gemm's logits can stay in float in INT8, while
    those of a convolution are rounded to 256 values.
    """
    producers, consumers, shapes = graph.producers(), graph.consumers(), graph.shapes()
    count = 0
    for node in graph.nodes:
        weights = graph.arrays.get(node.input[1]) if node.op_type == "Conv" else None
        pool, output = producers.get(node.input[0]), node.output[0]
        if weights is None or weights.shape[2:] != (1, 1) or attribute(node, "group", 1) != 1:
            continue
        readers = consumers.get(output, [])
        if pool is None or pool.op_type not in _POOLS.values() or len(readers) != 1 or output in graph.kept:
            continue
        flat = readers[0]
        if flat.op_type not in _FLATTENING or shapes.get(flat.output[0], ())[1:] != (len(weights),):
            continue
        matrix = graph.add_array(f"{node.name}/matrix", np.ascontiguousarray(weights.reshape(weights.shape[:2])))
        features = graph.fresh(f"{node.input[0]}/flat")
        before = onnx.helper.make_node("Flatten", [node.input[0]], [features], name=features, axis=1)
        node.op_type = "Gemm"
        node.input[:] = [features, matrix, *list(node.input)[2:]]
        node.output[0] = flat.output[0]
        del node.attribute[:]
        set_attribute(node, "transB", 1)
        graph.nodes.insert(graph.position(node), before)
        graph.remove([flat])
        count += 1
    return count
