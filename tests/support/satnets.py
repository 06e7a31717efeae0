"""One quantized layer with weights that overflow 16-bit sums, and what ``vpmaddubsw`` makes of it, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from xxdeploy.onnxmodel.model import OnnxModel


@dataclass(frozen=True, slots=True)
class Case:
    """A convolution; ``signed`` activations are int8."""

    cin: int
    cout: int
    kernel: int = 1
    group: int = 1
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    signed: bool = False
    after: str = ""

    @property
    def depthwise(self) -> bool:
        return self.cin == self.group == self.cout


CASES = (
    Case(3, 16, kernel=3, stride=2, pad=1),  # pairs run over the ends of a kernel position
    Case(8, 16),
    Case(8, 16, kernel=3, pad=1),
    Case(6, 8, kernel=3, pad=1, after="Relu"),
    Case(35, 7),
    Case(5, 7, kernel=3, pad=1),
    Case(16, 16, kernel=3, group=16, pad=1),
    Case(20, 20, kernel=3, group=20, pad=1),
    Case(8, 16, kernel=3, group=8, pad=1),
    Case(16, 32, kernel=3, group=4, pad=1),
    Case(12, 12, kernel=3, group=4, stride=2),
    Case(64, 64, after="Clip"),
    Case(512, 24),
    Case(1, 8, kernel=5, pad=2, dilation=2),
    Case(3, 16, kernel=3, stride=2, pad=1, signed=True),
    Case(8, 16, kernel=3, pad=1, signed=True),
    Case(64, 64, signed=True, after="Relu"),
    Case(16, 16, kernel=3, group=16, pad=1, signed=True),
)
SX, STEP = np.float32(0.02), np.float32(0.4)


def conv_arrays(case: Case, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return the layer's integers, scales and zero points."""
    rng = np.random.default_rng(seed)
    kind = np.int8 if case.signed else np.uint8
    weights = np.clip(
        np.rint(rng.normal(0, 60, (case.cout, case.cin // case.group, case.kernel, case.kernel))), -127, 127
    )
    weight_scale = rng.uniform(0.001, 0.002, case.cout).astype(np.float32)
    zero = 37 - 128 * case.signed
    zero_out = (0 if case.after else 128) - 128 * case.signed
    return {
        "w": weights.astype(np.int8), "w_scale": weight_scale, "w_zero": np.zeros(case.cout, np.int8),
        "b": rng.integers(-3000, 3000, case.cout).astype(np.int32), "b_scale": SX * weight_scale,
        "x_scale": np.array(SX), "x_zero": np.array(zero, kind),
        "y_scale": np.array(STEP), "y_zero": np.array(zero_out, kind),
        "zero": np.zeros((), np.float32), "top": np.array(255 * STEP, np.float32),
    }  # fmt: skip


def conv_model(case: Case, seed: int = 0) -> OnnxModel:
    """Return ``x -> Q/DQ -> Conv [-> activation] -> Q/DQ -> y``."""
    conv = helper.make_node(
        "Conv", ["x_dq", "w_dq", "b_dq"], ["c"], name="layer", group=case.group, strides=[case.stride] * 2,
        pads=[case.pad] * 4, dilations=[case.dilation] * 2, kernel_shape=[case.kernel] * 2,
    )  # fmt: skip
    activation = {
        "": [],
        "Relu": [helper.make_node("Relu", ["c"], ["a"])],
        "Clip": [helper.make_node("Clip", ["c", "zero", "top"], ["a"])],
    }[case.after]
    end = "a" if activation else "c"
    return layer_model([conv, *activation], end, conv_arrays(case, seed), ["n", case.cin, "h", "w"], axis=0)


def layer_model(
    nodes: list[Any], end: str, arrays: dict[str, NDArray[Any]], shape: list[Any], axis: int, *, to_float: bool = False
) -> OnnxModel:
    """Put Q/DQ pairs around ``nodes``, which lead from ``x_dq``, ``w_dq`` and ``b_dq`` to ``end``."""
    around = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_dq"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_dq"], axis=axis),
    ]
    if "b" in arrays:
        around.append(helper.make_node("DequantizeLinear", ["b", "b_scale"], ["b_dq"], axis=0))
    ends = [] if to_float else [
        helper.make_node("QuantizeLinear", [end, "y_scale", "y_zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y"]),
    ]  # fmt: skip
    nodes = [*around, *nodes, *ends]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(end if to_float else "y", 1, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return OnnxModel.from_proto(model)


def conv_input(case: Case, seed: int = 0) -> NDArray[np.float32]:
    """Return (2, channels, 9, 9) float32 that reaches every integer."""
    rng = np.random.default_rng(seed + 1)
    return ((rng.integers(0, 256, (2, case.cin, 9, 9)) - 37) * SX).astype(np.float32)


def brute_sums(rows: NDArray[Any], weights: NDArray[Any], *, saturate: bool) -> NDArray[np.int64]:
    """Return the sum of ``rows`` (m, k), 0..255, times ``weights`` (channels, k), two by two in 16 bits."""
    products = rows[:, None, :].astype(np.int64) * weights[None].astype(np.int64)
    if products.shape[2] % 2:
        products = np.pad(products, ((0, 0), (0, 0), (0, 1)))
    pairs = products[:, :, ::2] + products[:, :, 1::2]
    return np.asarray((np.clip(pairs, -32768, 32767) if saturate else pairs).sum(axis=2))


def brute_conv(case: Case, seed: int = 0, *, saturate: bool = True) -> NDArray[np.int64]:
    """Return the output's integers (2, channels, h, w) on x86 with AVX2 and no VNNI, or exact ones."""
    arrays = conv_arrays(case, seed)
    shift = 128 * case.signed
    kind = np.iinfo(arrays["x_zero"].dtype)
    zero = int(arrays["x_zero"])
    stored = np.clip(np.rint(conv_input(case, seed) / SX).astype(np.int64) + zero, kind.min, kind.max)
    around = ((0, 0), (0, 0), (case.pad, case.pad), (case.pad, case.pad))
    raw = np.pad(stored, around, constant_values=zero) + shift
    reach = case.dilation * (case.kernel - 1) + 1
    size = (raw.shape[2] - reach) // case.stride + 1
    inputs, outputs = case.cin // case.group, case.cout // case.group
    sums = np.zeros((2, case.cout, size, size), np.int64)
    for row in range(size):
        for column in range(size):
            top, left = row * case.stride, column * case.stride
            window = raw[:, :, top : top + reach : case.dilation, left : left + reach : case.dilation]
            for group in range(case.group):
                patch = window[:, group * inputs : (group + 1) * inputs].transpose(0, 2, 3, 1).reshape(2, -1)
                mine = slice(group * outputs, (group + 1) * outputs)
                weights = arrays["w"][mine].transpose(0, 2, 3, 1).reshape(outputs, -1)
                found = brute_sums(patch, weights, saturate=saturate and not case.depthwise)
                sums[:, mine, row, column] = found - (zero + shift) * weights.sum(axis=1, dtype=np.int64)
    return requantized(sums + arrays["b"][:, None, None].astype(np.int64), arrays, (-1, 1, 1))


def requantized(sums: NDArray[np.int64], arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Scale and round sums to the output's integers, as ONNX Runtime does."""
    factor = (SX * arrays["w_scale"] / arrays["y_scale"]).astype(np.float32).reshape(shape)
    kind = np.iinfo(arrays["y_zero"].dtype)
    steps = np.rint(sums.astype(np.float32) * factor).astype(np.int64) + int(arrays["y_zero"])
    return np.asarray(np.clip(steps, kind.min, kind.max))


def integers_of(output: NDArray[np.float32], arrays: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the integers behind a dequantized output."""
    return np.asarray(np.rint(output / arrays["y_scale"]).astype(np.int64) + int(arrays["y_zero"]))
