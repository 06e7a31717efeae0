"""Small float graphs for the tests of this folder, written as ONNX text, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import Batches, Scheme
from xxdeploy.quantize.methods.equalize import equalize
from xxdeploy.quantize.methods.method import Draft, MethodContext, Writer
from xxdeploy.quantize.methods.reconstruct import reconstruct
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.quantize.x86.saturating_pairs import kernel_rows
from xxdeploy.results import OnProgress, Ranges

RESIDUAL = """
<ir_version: 8, opset_import: ["" : 17]>
residual (float[n, 16, 16, 3] image) => (float[n, 10] probabilities)
{
  nchw = Transpose<perm = [0, 3, 1, 2]>(image)
  stem = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(nchw, stem_w, stem_b)
  stem6 = Clip(stem, zero, six)
  down = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(stem6)
  wide = Conv(down, wide_w, wide_b)
  wide6 = Relu(wide)
  deep = Conv<group = 16, pads = [1, 1, 1, 1]>(wide6, deep_w, deep_b)
  deep6 = Clip(deep, zero, six)
  thin = Conv(deep6, thin_w)
  sum = Add(down, thin)
  grouped = Conv<group = 2, pads = [1, 1, 1, 1]>(sum, grouped_w, grouped_b)
  both = Concat<axis = 1>(sum, grouped)
  pooled = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(both)
  padded = Pad(pooled, pads)
  mean = GlobalAveragePool(padded)
  flat = Flatten(mean)
  logits = Gemm<transB = 1>(flat, head_w, head_b)
  probabilities = Softmax(logits)
}
"""


def parse(text: str, arrays: dict[str, NDArray[Any]]) -> OnnxModel:
    """Return the graph ``text`` with ``arrays`` as its initializers, checked."""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.checker.check_model(proto, full_check=True)
    return OnnxModel.from_proto(proto)


def residual(seed: int = 15) -> OnnxModel:
    """Return a network with each kind of layer that the CPU runs in integers."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        values: NDArray[np.float64] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return values.astype(np.float32)

    def bias(channels: int) -> NDArray[np.float32]:
        return (rng.standard_normal(channels) / 4).astype(np.float32)

    return parse(
        RESIDUAL,
        {
            "stem_w": weights(8, 3, 3, 3), "stem_b": bias(8), "wide_w": weights(16, 8, 1, 1), "wide_b": bias(16),
            "deep_w": weights(16, 1, 3, 3), "deep_b": bias(16), "thin_w": weights(8, 16, 1, 1),
            "grouped_w": weights(8, 4, 3, 3), "grouped_b": bias(8), "head_w": weights(10, 16) * 24, "head_b": bias(10),
            "zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32),
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        },
    )  # fmt: skip


def images(count: int = 16, seed: int = 1, size: int = 16) -> NDArray[np.float32]:
    """Return preprocessed images (count, size, size, 3) float32 that differ in brightness and texture."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(-0.7, 0.7, (count, 1, 1, 3))
    return np.clip(level + 0.4 * rng.standard_normal((count, size, size, 3)), -1, 1).astype(np.float32)


def batches(batch: NDArray[np.float32], size: int = 4) -> Callable[[], Iterator[NDArray[np.float32]]]:
    """Return ``data`` in batches of ``size``, again at each call."""
    return lambda: (batch[first : first + size] for first in range(0, len(batch), size))


def run(model: OnnxModel, batch: NDArray[np.float32], *, optimize: bool = True) -> NDArray[np.float32]:
    """Return the model's output for ``data``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return output


def optimized_ops(model: OnnxModel, folder: Path) -> Counter[str]:
    """Count the operators of the graph that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the optimized file fits this machine only
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def ops(model: OnnxModel) -> Counter[str]:
    """Count the operators as written."""
    return Counter(node.op_type for node in model.proto().graph.node)


def equalized(model: OnnxModel, batches: Batches, on_progress: OnProgress | None = None) -> OnnxModel:
    """Return the float ``model`` after equalization."""
    return equalize(Draft(model), MethodContext(batches, on_progress=on_progress)).model


def reconstructed(
    model: OnnxModel,
    ranges: Ranges,
    scheme: Scheme,
    batches: Batches,
    *,
    rounding: bool = False,
    write: Writer = quantize,
    on_progress: OnProgress | None = None,
) -> Draft:
    """Return the float ``model`` with the biases of the empirical correction, and with ``rounding`` its integers."""
    recipe = QuantizationRecipe(bias_correction="empirical", rounding="adaptive" if rounding else "nearest")
    return reconstruct(Draft(model, ranges), MethodContext(batches, recipe, scheme, write, on_progress))


def with_biases(
    model: OnnxModel, ranges: Ranges, scheme: Scheme, batches: Batches, on_progress: OnProgress | None = None
) -> OnnxModel:
    """Return the float ``model`` with the biases of the empirical correction."""
    return reconstructed(model, ranges, scheme, batches, on_progress=on_progress).model


def pair_excess(values: NDArray[np.int8], axis: int) -> NDArray[np.int16]:
    """Return by how much ``|w[k] + w[k+1]|`` of one sign passes 128, (channels, k - 1): 0 everywhere if it is safe.

    Every neighbor counts where a kernel of several positions may start in either phase; else every second.
    """
    rows = kernel_rows(values, axis).astype(np.int16)
    left, right = rows[:, :-1], rows[:, 1:]
    excess = np.where(left * right > 0, np.maximum(np.abs(left + right) - 128, 0), 0).astype(np.int16)
    if values.ndim == 2 or values.shape[1] % 2 == 0 or np.prod(values.shape[2:]) == 1:
        excess[:, 1::2] = 0
    return excess
