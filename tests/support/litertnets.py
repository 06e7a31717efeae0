"""Small ONNX graphs, and their answers in ONNX Runtime and in LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, parse, run

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import Scheme, calibrate, quantize

pytest.importorskip("ai_edge_litert", reason="pip install 'xxdeploy[litert]': there is no LiteRT to run the files")

from xxdeploy.lowering.litert.write import to_litert
from xxdeploy.runtime.engines.litert import LitertSession


def network(body: str, output: str, arrays: Mapping[str, Any] | None = None, image: str = "n, 9, 8, 3") -> OnnxModel:
    """Return the graph ``body`` of ``x``, the channels-first ``image``, with one output ``y`` of type ``output``."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[{image}] image) => ({output} y)
    {{ x = Transpose<perm = [0, 3, 1, 2]>(image) {body} }}"""
    return parse(text, dict(arrays or {}))


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Return normally distributed float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pictures(model: OnnxModel, count: int = 6) -> NDArray[np.float32]:
    """Return a batch that fits the model's input, in -1..1."""
    sides = [side.dim_value for side in model.proto().graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(3).uniform(-1, 1, (count, *sides)).astype(np.float32)


def in_litert(model: OnnxModel, batch: NDArray[Any], *, reference: bool = False) -> NDArray[np.float32]:
    """Return the first output of the model's LiteRT file."""
    return LitertSession(to_litert(model), reference=reference, threads=1).run(batch)


def error(model: OnnxModel) -> float:
    """Return the largest difference between LiteRT and ONNX Runtime, over the largest output."""
    batch = pictures(model)
    right = run(model, batch)
    answer = in_litert(model, batch)
    assert answer.shape == right.shape
    return float(np.abs(answer - right).max() / max(np.abs(right).max(), 1e-9))


def in_int8(model: OnnxModel, *, signed: bool = True) -> OnnxModel:
    """Quantize a model with the ranges of its own pictures."""
    ranges = calibrate(model, batches(pictures(model, 16)), data_digest="d")
    return quantize(model, ranges, Scheme(signed=signed))


def steps(model: OnnxModel, *, reference: bool = False) -> float:
    """Return by how many steps of its output the INT8 model differs in LiteRT from ONNX Runtime, at most."""
    batch = pictures(model)
    proto = model.proto()
    last = next(node for node in reversed(proto.graph.node) if node.op_type == "DequantizeLinear")
    scale = next(array for array in proto.graph.initializer if array.name == last.input[1])
    step = float(np.frombuffer(scale.raw_data, np.float32)[0]) if scale.raw_data else scale.float_data[0]
    return float(np.abs(in_litert(model, batch, reference=reference) - run(model, batch)).max() / step)
