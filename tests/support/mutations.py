"""Ways to break a bundle on purpose, as somebody would who knows the format: every hash is right again afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from xxdeploy.onnxmodel.model import OnnxModel

Break = Callable[[Path, Any], None]
"""Breaks the bundle in a folder; the second is the Keras model."""


def rehash(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Write sizes and hashes of the files as they are now into the manifest, after ``change`` has edited it."""
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    for entry in manifest["files"]:
        content = (bundle / entry["path"]).read_bytes()
        entry.update(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    change(manifest)
    file.write_text(json.dumps(manifest))


def edit_graph(bundle: Path, change: Callable[[Any, dict[str, Any]], None], file: str = "model.onnx") -> None:
    """Let ``change`` edit the graph and the (copied) weights of a model file."""
    proto, views = OnnxModel((bundle / file).read_bytes()).split()
    arrays = {name: np.array(view) for name, view in views.items()}
    change(proto, arrays)
    (bundle / file).write_bytes(OnnxModel.join(proto, arrays).to_bytes())
    rehash(bundle)


def node_of(proto: Any, name: str) -> Any:
    return next(node for node in proto.graph.node if node.name == name)


def flip_bit_of_file(bundle: Path, _: Any) -> None:
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)  # this one leaves the hash as it was


def flip_weight_bit(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        arrays["block_5_project/Conv/weight_quantized"].view(np.uint8).flat[7] ^= 0x40

    edit_graph(bundle, change)


def move_float_weight(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        arrays["block_5_project/Conv/weight"].view(np.uint32).flat[7] ^= 1 << 22

    edit_graph(bundle, change)


def change_mode(bundle: Path, _: Any) -> None:
    rehash(bundle, lambda manifest: manifest["preprocess"].update(mode="torch"))


def swap_channels(bundle: Path, _: Any) -> None:
    scaling = {"scale": 1 / 127.5, "mean": [1.0] * 3, "std": [1.0] * 3, "order": "bgr"}
    rehash(bundle, lambda manifest: manifest["preprocess"].update(mode="custom", scaling=scaling))


def swap_channels_of_first_weights(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        arrays["Conv1/Conv/weight_quantized"] = arrays["Conv1/Conv/weight_quantized"][:, ::-1].copy()

    edit_graph(bundle, change)


def change_resize(bundle: Path, _: Any) -> None:
    rehash(bundle, lambda manifest: manifest["preprocess"].update(resize="crop"))


def transpose_image(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        node = next(node for node in proto.graph.node if node.op_type == "Transpose")
        node.attribute[0].ints[:] = [0, 3, 2, 1]

    edit_graph(bundle, change)


def transpose_kernel(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        name = "block_3_depthwise/Conv/weight_quantized"
        arrays[name] = arrays[name].transpose(0, 1, 3, 2).copy()

    edit_graph(bundle, change)


def skip_batch_norm(bundle: Path, keras: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        kernel = np.asarray(keras.get_layer("block_2_expand").kernel)
        arrays["block_2_expand/Conv/weight"] = kernel.transpose(3, 2, 0, 1).copy()
        arrays["block_2_expand/Conv/bias"][...] = 0

    edit_graph(bundle, change)


def change_epsilon(bundle: Path, keras: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        norm = keras.get_layer("block_6_project_BN")
        variance = np.asarray(norm.moving_variance)
        factor = np.sqrt((variance + norm.epsilon) / (variance + 1e-5))
        beta = np.asarray(norm.beta)
        weight, bias = (f"block_6_project/Conv/{name}" for name in ("weight", "bias"))
        arrays[weight] *= factor[:, None, None, None].astype(np.float32)
        arrays[bias] = (beta + (arrays[bias] - beta) * factor).astype(np.float32)

    edit_graph(bundle, change)


def swap_labels(bundle: Path, _: Any) -> None:
    lines = (bundle / "labels.txt").read_text().splitlines()
    lines[3], lines[5] = lines[5], lines[3]
    (bundle / "labels.txt").write_text("".join(f"{line}\n" for line in lines))
    rehash(bundle)


def take_older_record(bundle: Path, _: Any) -> None:
    record = json.loads((bundle / "calibration.json").read_text())
    record["model_digest"] = hashlib.sha256(b"an older model").hexdigest()
    (bundle / "calibration.json").write_text(json.dumps(record))
    rehash(bundle)


def take_ranges_of_another_model(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        for name in arrays:
            if name.endswith("_scale") and name.startswith("block_8"):
                arrays[name] = arrays[name] * np.float32(0.2)

    edit_graph(bundle, change)


def shift_zero_point(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        name = "block_4_project/Conv_zero_point"
        node = next(n for n in proto.graph.node if n.op_type == "DequantizeLinear" and name in n.input)
        arrays["shifted"] = (arrays[name] + 20).astype(arrays[name].dtype)
        node.input[2] = "shifted"

    edit_graph(bundle, change)


def change_softmax_axis(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        node = node_of(proto, "predictions/Softmax")
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("axis", 0))

    edit_graph(bundle, change)


def drop_relu6_cap(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        node = node_of(proto, "block_13_expand_relu/Clip")
        arrays["no_cap"] = np.asarray(1e9, np.float32)
        node.input[2] = "no_cap"

    edit_graph(bundle, change)


def drop_relu(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        node = node_of(proto, "block_7_depthwise_relu/Clip")
        before, after = node.input[0], node.output[0]
        for other in proto.graph.node:
            other.input[:] = [before if name == after else name for name in other.input]
        proto.graph.node.remove(node)

    edit_graph(bundle, change)


def drop_shortcut(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        node = node_of(proto, "block_2_add/Add")
        node.input[0] = node.input[1]

    edit_graph(bundle, change)


def pad_the_other_side(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        node = node_of(proto, "block_3_depthwise/Conv")
        pads = next(attribute for attribute in node.attribute if attribute.name == "pads").ints
        pads[:] = [*pads[2:], *pads[:2]]

    edit_graph(bundle, change)


def swap_variant_files(bundle: Path, _: Any) -> None:
    one, other = bundle / "model.onnx", bundle / "model-avx2.onnx"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    rehash(bundle)


def flip_bias(bundle: Path, _: Any) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        name = next(n for n in arrays if n.startswith("block_1_expand/Conv") and n.endswith("bias_quantized"))
        arrays[name] *= -1

    edit_graph(bundle, change)


MUTATIONS: tuple[tuple[str, str, Break, str, str, str], ...] = (
    # what is broken, in which bundle, how, which check says so, its code, the place that it names
    ("a bit of the model file", "int8", flip_bit_of_file, "hashes", "file-hash", "model.onnx"),
    ("a bit of an INT8 weight", "int8", flip_weight_bit, "parity", "wrong-", "block_5_project"),
    ("a bit of a float weight", "fp32", move_float_weight, "parity", "wrong-", "block_5_project"),
    ("preprocessing mode", "int8", change_mode, "golden", "golden-mismatch", "mode is 'torch'"),
    ("preprocessing mode", "int8", change_mode, "parity", "wrong-preprocess", "mode is 'torch'"),
    ("channel order of the image", "int8", swap_channels, "golden", "golden-mismatch", "exported with 'tf'"),
    ("channel order of the first weights", "int8", swap_channels_of_first_weights, "parity", "wrong-", "Conv1"),
    ("resize", "int8", change_resize, "accuracy", "accuracy-below-card", "resize is 'crop'"),
    ("axes of the image", "int8", transpose_image, "parity", "wrong-layer", "Transpose image"),
    ("axes of a kernel", "int8", transpose_kernel, "parity", "wrong-layer", "block_3_depthwise"),
    ("a skipped batch norm", "fp32", skip_batch_norm, "parity", "wrong-layer", "block_2_expand"),
    ("epsilon of a batch norm", "fp32", change_epsilon, "parity", "wrong-", "block_6_project"),
    ("order of the labels", "int8", swap_labels, "parity", "wrong-labels", "class 3"),
    ("order of the labels", "int8", swap_labels, "accuracy", "accuracy-below-card", "labels.txt"),
    ("calibration record of another model", "int8", take_older_record, "records", "stale-calibration", "model"),
    ("calibration ranges of another model", "int8", take_ranges_of_another_model, "parity", "wrong-layer", "block_8"),
    ("a zero point", "int8", shift_zero_point, "parity", "wrong-layer", "block_4_project"),
    ("axis of the softmax", "int8", change_softmax_axis, "parity", "wrong-layer", "predictions"),
    ("the cap of a ReLU6", "int8", drop_relu6_cap, "parity", "wrong-layer", "block_13_expand_relu"),
    ("a ReLU", "int8", drop_relu, "parity", "wrong-layer", "block_7_depthwise_relu/Clip is missing"),
    ("a shortcut", "int8", drop_shortcut, "parity", "wrong-layer", "block_2_add"),
    ("padding on the other side", "int8", pad_the_other_side, "parity", "wrong-layer", "block_3_depthwise"),
    ("sign of the biases", "int8", flip_bias, "parity", "wrong-layer", "block_1_expand"),
    ("files of two variants swapped", "int8", swap_variant_files, "records", "swapped-variants", "model-avx2.onnx"),
)  # fmt: skip
