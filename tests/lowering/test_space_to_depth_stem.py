"""The first layer reads blocks of pixels, and every integer stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantnets import batches, ops, pair_excess, parse, run

from xxdeploy.errors import VerificationError
from xxdeploy.lowering.center_pixels import CENTERED, shift_input
from xxdeploy.lowering.space_to_depth_stem import (
    Stem,
    space_to_depth_stem,
    undo_space_to_depth_stem,
    weights_over_blocks,
)
from xxdeploy.lowering.uint8_input import take_uint8_input
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme

STEP, CENTER = 1 / 127.5, 127.5
CONV = "Conv<pads = [0, 0, 1, 1], strides = [2, 2], kernel_shape = [3, 3]>"
VALID = CONV.replace("[0, 0, 1, 1]", "[0, 0, 0, 0]")  # as in NASNet


def on_pixels(
    size: int = 16, conv: str = CONV, kernel: int = 3, behind: str = "r = Clip(a, zero, six)", colors: int = 3
) -> OnnxModel:
    rng = np.random.default_rng(0)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, {size}, {size}, {colors}] image) => (float[n, 6] y)
    {{ x = Transpose<perm = [0, 3, 1, 2]>(image)  a = {conv}(x, w, b)  {behind}
       d = Conv<group = 16, pads = [1, 1, 1, 1]>(r, v)  m = GlobalAveragePool(d)  f = Flatten(m)
       y = Gemm<transB = 1>(f, u) }}"""
    arrays = {
        "w": rng.standard_normal((16, colors, kernel, kernel)), "b": rng.standard_normal(16) + 1, "six": np.array(6),
        "v": rng.standard_normal((16, 1, 3, 3)), "u": rng.standard_normal((6, 16)), "zero": np.array(0),
    }  # fmt: skip
    model = parse(text, {name: array.astype(np.float32) for name, array in arrays.items()})
    model, _ = optimize(model, [lambda graph: shift_input(graph, STEP / 2)])
    images = rng.uniform(-1, 1, (4, size, size, colors)).astype(np.float32)
    calibrated = calibrate(model, batches(images), data_digest="d")
    grid = {**calibrated.ranges, CENTERED: (-127 * STEP, 128 * STEP)}
    return take_uint8_input(quantize(model, replace(calibrated, ranges=grid), scheme("static-w8c-a8")), STEP, CENTER)


def pictures(size: int = 16, colors: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (3, size, size, colors)).astype(np.uint8)


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("behind", ["r = Clip(a, zero, six)", "r = Relu(a)", "r = MaxPool<kernel_shape = [1, 1]>(a)"])
def test_the_answers_are_the_same_bit_for_bit(optimize: bool, behind: str) -> None:
    model = on_pixels(behind=behind)
    made = space_to_depth_stem(model)
    assert made is not model
    assert ops(made)["Reshape"] == 2
    outputs = run(made, pictures(), optimize=optimize)
    np.testing.assert_array_equal(outputs, run(model, pictures(), optimize=optimize))


@pytest.mark.parametrize(
    ("size", "conv", "kernel"),
    [
        (14, CONV, 3),  # no whole blocks in a row
        (16, VALID, 3),  # half of the last block in a row would be too much
        (16, VALID.replace("pads = [0, 0, 0, 0], ", ""), 3),
        (16, CONV.replace("[0, 0, 1, 1]", "[0, 1, 1, 0]"), 3),
        (16, CONV.replace("strides = [2, 2]", "strides = [2, 1]"), 3),
        (16, CONV.replace("strides = [2, 2]", "strides = [1, 1]"), 3),  # slower without VNNI
        (16, CONV.replace("kernel_shape = [3, 3]", "kernel_shape = [7, 7]").replace("[0, 0, 1, 1]", "[3, 3, 3, 3]"), 7),
        (16, CONV.replace("strides = [2, 2]", "strides = [3, 3]"), 3),
        (16, CONV.replace("strides = [2, 2]", "dilations = [2, 2]").replace("[0, 0, 1, 1]", "[2, 2, 2, 2]"), 3),
        (16, 'Conv<auto_pad = "SAME_UPPER", strides = [2, 2], kernel_shape = [3, 3]>', 3),
    ],
)
def test_other_first_layers_stay(size: int, conv: str, kernel: int) -> None:
    model = on_pixels(size, conv, kernel)
    assert space_to_depth_stem(model) is model


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (16, 3, 2, (1, 1)),  # over three
        (16, 3, 1, (1, 1)),
        (16, 5, 1, (0, 0)),  # LeNet
        (16, 5, 1, (2, 2)),
        (16, 7, 2, (3, 3)),
        (16, 2, 2, (0, 0)),
        (16, 1, 1, (0, 0)),
        (16, 9, 4, (5, 0)),
        (24, 9, 4, (0, 1)),
        (16, 3, 1, (2, 0)),
    ],
)
def test_a_square_layer_over_one_channel_keeps_its_answers(
    size: int, kernel: int, stride: int, pads: tuple[int, int]
) -> None:
    before, after = pads
    colors = 3 if (kernel, stride) == (3, 2) else 1
    conv = f"Conv<pads = [{before}, {before}, {after}, {after}], strides = [{stride}, {stride}]>".replace(
        ">", f", kernel_shape = [{kernel}, {kernel}]>"
    )
    model = on_pixels(size, conv, kernel, colors=colors)
    made = space_to_depth_stem(model)
    assert made is not model
    images = pictures(size, colors)
    np.testing.assert_array_equal(run(made, images), run(model, images))
    back = undo_space_to_depth_stem(made)
    assert ops(back) == ops(model)
    np.testing.assert_array_equal(run(back, images), run(model, images))
    for name, array in model.split()[1].items():
        np.testing.assert_array_equal(back.split()[1][name], array)


def test_it_is_done_once() -> None:
    made = space_to_depth_stem(on_pixels())
    assert space_to_depth_stem(made) is made


def test_weights_that_are_safe_in_pairs_stay_so() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = rng.integers(-64, 65, (4, 3, 3, 3)).astype(np.int8)
        weights[rng.random(weights.shape) < 0.1] = 127
        safe = np.where(np.pad(pair_excess(weights, 0), ((0, 0), (0, 1))).any(axis=1), 0, 1).astype(bool)
        both = np.concatenate([safe, safe])
        assert not pair_excess(weights_over_blocks(weights, Stem(3, 2, 0, 1)), 0)[both].any()


def test_it_can_be_undone() -> None:
    model = on_pixels()
    taken = space_to_depth_stem(model)
    back = undo_space_to_depth_stem(taken)
    assert ops(back) == ops(model)
    images = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(run(back, images), run(model, images))
    assert undo_space_to_depth_stem(model) is model


def test_halves_that_differ_are_noticed() -> None:
    proto, arrays = space_to_depth_stem(on_pixels()).split()
    name = next(name for name, array in arrays.items() if array.shape == (32, 12, 3, 2))
    changed = arrays[name].copy()
    changed[20, 1, 1, 1] ^= 1
    with pytest.raises(VerificationError) as caught:
        undo_space_to_depth_stem(OnnxModel.join(proto, {**arrays, name: changed}))
    assert caught.value.code == "wrong-weight"


@pytest.mark.parametrize("damage", ["no-conv", "no-kernel", "other-stride", "huge", "no-end"])
def test_damaged_blocks_are_an_error(damage: str) -> None:
    proto, arrays = space_to_depth_stem(on_pixels()).split()
    nodes = proto.graph.node
    conv = next(node for node in nodes if node.op_type == "Conv")
    if damage == "no-conv":
        conv.output[0] += "_renamed"
    elif damage == "no-kernel":
        del conv.attribute[:]
    elif damage == "other-stride":
        next(attribute for attribute in conv.attribute if attribute.name == "strides").ints[:] = [0, 0]
    elif damage == "huge":
        next(attribute for attribute in conv.attribute if attribute.name == "kernel_shape").ints[:] = [1 << 40, 2]
    else:
        del nodes[max(index for index, node in enumerate(nodes) if node.output[0].endswith("pairs_nchw")) + 1 :]
    with pytest.raises(VerificationError) as caught:
        undo_space_to_depth_stem(OnnxModel.join(proto, arrays))
    assert caught.value.code == "wrong-weight"
