"""Networks with the branches of Inception, DenseNet and NASNet, and random ones: optimized, quantized, run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantnets import batches, ops, optimized_ops, parse, reconstructed, run

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme

U8S8 = scheme("static-w8c-a8")
SIZE = 12
POOL = "kernel_shape = [3, 3], pads = [1, 1, 1, 1]"


class Maker:
    """Writes a network of NHWC images node by node; every tensor has the images' height and width."""

    def __init__(self, seed: int, channels: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.arrays: dict[str, NDArray[np.float32]] = {
            "zero": np.zeros((), np.float32),
            "six": np.full((), 6, np.float32),
        }
        self.channels: dict[str, int] = {}
        self.first = self.op("Transpose", "image", channels=channels, options="perm = [0, 3, 1, 2]")

    def op(self, kind: str, *inputs: str, channels: int = 0, options: str = "") -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {kind}{f'<{options}>' if options else ''}({', '.join(inputs)})")
        self.channels[name] = channels or self.channels[inputs[0]]
        return name

    def conv(self, source: str, outputs: int, size: int = 1, group: int = 1, *, bias: bool = True) -> str:
        shape = (outputs, self.channels[source] // group, size, size)
        name, pad = f"w{len(self.lines)}", size // 2
        self.arrays[name] = (self.rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        inputs = [source, name]
        if bias:
            inputs.append(f"{name}_b")
            self.arrays[f"{name}_b"] = (0.2 * self.rng.standard_normal(outputs)).astype(np.float32)
        options = f"group = {group}, pads = [{pad}, {pad}, {pad}, {pad}]"
        return self.op("Conv", *inputs, channels=outputs, options=options)

    def separable(self, source: str, outputs: int) -> str:
        deep = self.conv(source, self.channels[source], 3, self.channels[source], bias=False)
        return self.conv(deep, outputs)

    def relu(self, source: str) -> str:
        return self.op("Relu", source)

    def clip(self, source: str) -> str:
        return self.op("Clip", source, "zero", "six")

    def concat(self, *sources: str) -> str:
        return self.op("Concat", *sources, channels=sum(self.channels[name] for name in sources), options="axis = 1")

    def batch_norm(self, source: str) -> str:
        count, stem = self.channels[source], f"n{len(self.lines)}"
        names = [f"{stem}_{part}" for part in ("scale", "shift", "mean", "var")]
        for name in names:
            self.arrays[name] = self.rng.uniform(0.5, 1, count).astype(np.float32)
        return self.op("BatchNormalization", source, *names)

    def end(self, source: str, classes: int = 10) -> OnnxModel:
        """Return the network, ending in a mean over the image and a Gemm."""
        mean = self.op("GlobalAveragePool", source)
        flat = self.op("Flatten", mean)
        self.arrays["head"] = self.rng.standard_normal((classes, self.channels[source])).astype(np.float32)
        self.arrays["head_b"] = (0.1 * self.rng.standard_normal(classes)).astype(np.float32)
        lines = [*self.lines, f"y = Gemm<transB = 1>({flat}, head, head_b)"]
        read = {name for line in lines for name in line[line.index("(") + 1 : -1].split(", ")}
        text = (
            '<ir_version: 8, opset_import: ["" : 17]> made '
            f"(float[n, {SIZE}, {SIZE}, {self.channels[self.first]}] image) => (float[n, {classes}] y)"
            "{" + "\n".join(lines) + "}"
        )
        return parse(text, {name: array for name, array in self.arrays.items() if name in read})


def inception(seed: int = 0) -> OnnxModel:
    """Return two modules of four branches, each ending in a Relu, behind a stem."""
    make = Maker(seed)
    x = make.relu(make.conv(make.first, 12, 3))
    for _ in range(2):
        one = make.relu(make.conv(x, 6))
        three = make.relu(make.conv(make.relu(make.conv(x, 6)), 8, 3))
        five = make.relu(make.conv(make.relu(make.conv(x, 4)), 6, 5))
        pool = make.relu(make.conv(make.op("MaxPool", x, options=POOL), 6))
        x = make.concat(one, three, five, pool)
    mean = make.op("AveragePool", x, options=POOL)
    return make.end(make.relu(make.conv(mean, 24)))


def densenet(seed: int = 0) -> OnnxModel:
    """Return a block of four layers, each reading all before it through a normalization, and a transition."""
    make = Maker(seed)
    x = make.conv(make.first, 12, 3, bias=False)
    for _ in range(4):
        thin = make.relu(make.batch_norm(make.conv(make.relu(make.batch_norm(x)), 16, bias=False)))
        x = make.concat(x, make.conv(thin, 6, 3, bias=False))
    transition = make.conv(make.relu(make.batch_norm(x)), 12, bias=False)
    x = make.op("AveragePool", transition, options=POOL)
    return make.end(make.relu(make.batch_norm(make.concat(x, make.conv(x, 6, 3)))))


def nasnet(seed: int = 0) -> OnnxModel:
    """Return two cells: separable convolutions, pools and identities added by twos, behind Relus of their own."""
    make = Maker(seed)
    before = x = make.conv(make.first, 8, 3)
    for _ in range(2):
        h, p = make.conv(make.relu(x), 8), make.conv(make.relu(before), 8)
        left = make.op("Add", make.separable(make.relu(h), 8), make.separable(make.relu(p), 8))
        right = make.op("Add", make.separable(make.relu(p), 8), h)
        pools = make.op("Add", make.op("AveragePool", p, options=POOL), make.op("AveragePool", p, options=POOL))
        mixed = make.op("Add", make.op("AveragePool", h, options=POOL), p)
        before, x = x, make.concat(left, right, pools, mixed)
    return make.end(make.relu(x))


def pictures(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    level = rng.uniform(-0.6, 0.6, (count, 1, 1, 3))
    return np.clip(level + 0.4 * rng.standard_normal((count, SIZE, SIZE, 3)), -1, 1).astype(np.float32)


def decibels(wanted: NDArray[np.float32], outputs: NDArray[np.float32]) -> float:
    """Return the ratio of signal to noise."""
    noise = float(np.square(outputs.astype(np.float64) - wanted).mean())
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).mean() / max(noise, 1e-30)))


@pytest.mark.parametrize("build", [inception, densenet, nasnet])
def test_networks_with_branches_stay_close_to_float(build: type, tmp_path: Path) -> None:
    raw: OnnxModel = build()
    model, _ = optimize(raw)
    batch, unseen = pictures(24, 1), pictures(24, 2)
    np.testing.assert_allclose(run(model, unseen), run(raw, unseen), rtol=1e-4, atol=1e-4)
    ranges = calibrate(model, batches(batch), data_digest="d")
    quantized = quantize(model, ranges, U8S8)
    wanted = run(model, unseen)
    assert decibels(wanted, run(quantized, unseen)) > 22
    assert decibels(wanted, run(quantized, unseen, optimize=False)) > 22
    tuned = reconstructed(model, ranges, U8S8, batches(batch), rounding=True)
    better = quantize(tuned.model, ranges, U8S8, rounding=tuned.rounding)
    assert decibels(wanted, run(better, unseen)) > decibels(wanted, run(quantized, unseen)) - 1
    kernels = optimized_ops(quantized, tmp_path)
    assert kernels["QLinearConv"] == ops(model)["Conv"]
    assert not kernels.keys() & {"Conv", "FusedConv", "Gemm", "QLinearAveragePool"}


def test_inception_copies_integers(tmp_path: Path) -> None:
    model, _ = optimize(inception())
    quantized = quantize(model, calibrate(model, batches(pictures(8, 1)), data_digest="d"), U8S8)
    count = optimized_ops(quantized, tmp_path)
    assert count["QLinearConcat"] + count["Concat"] == 2
    assert not count.keys() & {"Relu", "FusedConv"}
    assert count["QuantizeLinear"] <= 2  # the image, and behind the average pool


def test_nasnet_rounds_once_beside_average_pools() -> None:
    model, records = optimize(nasnet())
    changed = {record.step: record.facts["changed"] for record in records if record.step == "hoist_relu"}
    assert changed == {"hoist_relu": 2}  # both cells' ends: all that read them do so through a Relu
    quantized = quantize(model, calibrate(model, batches(pictures(8, 1)), data_digest="d"), U8S8)
    proto = quantized.proto().graph
    readers = {name: node for node in proto.node for name in node.input}
    pools = [node for node in proto.node if node.op_type == "AveragePool"]
    assert pools
    assert all(readers[node.output[0]].op_type == "Add" for node in pools)  # no QuantizeLinear between


@st.composite
def networks(draw: st.DrawFn) -> OnnxModel:
    """Draw a graph of up to ten nodes; whatever nothing reads is joined in the end."""
    make = Maker(draw(st.integers(0, 2**16)))
    made = [make.conv(make.first, 4, 3)]
    unread = set(made)
    for _ in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(["conv", "deep", "relu", "clip", "add", "concat", "max", "average"]))
        source = draw(st.sampled_from(made))
        other = draw(st.sampled_from(made))
        if kind == "conv":
            new = make.conv(source, 4, draw(st.sampled_from([1, 3])), bias=draw(st.booleans()))
        elif kind == "deep":
            new = make.conv(source, make.channels[source], 3, make.channels[source])
        elif kind in ("relu", "clip"):
            new = make.relu(source) if kind == "relu" else make.clip(source)
        elif kind in ("max", "average"):
            new = make.op("MaxPool" if kind == "max" else "AveragePool", source, options=POOL)
        elif kind == "add" and make.channels[source] == make.channels[other]:
            new = make.op("Add", source, other)
        elif kind == "concat" and make.channels[source] + make.channels[other] <= 16:
            new = make.concat(source, other)
        else:
            continue
        unread -= {source, other} if kind in ("add", "concat") else {source}
        made.append(new)
        unread.add(new)
    last = sorted(unread, key=made.index)
    end = make.concat(*last) if len(last) > 1 else last[0]
    return make.end(make.relu(end) if draw(st.booleans()) else make.conv(end, 6))


@settings(max_examples=30, derandomize=True)
@given(networks())
def test_random_networks_keep_their_outputs(raw: OnnxModel) -> None:
    batch = pictures(8, 1)
    model, _ = optimize(raw)
    onnx.checker.check_model(model.proto(), full_check=True)
    wanted = run(raw, batch, optimize=False)
    np.testing.assert_allclose(run(model, batch, optimize=False), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    quantized = quantize(model, calibrate(model, batches(batch), data_digest="d"), U8S8)
    onnx.checker.check_model(quantized.proto(), full_check=True)
    assert decibels(wanted, run(quantized, batch, optimize=False)) > 25
    assert decibels(wanted, run(quantized, batch)) > 25
