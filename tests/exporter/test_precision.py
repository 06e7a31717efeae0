"""The stages of an export, and the files that stand for them."""

from __future__ import annotations

from xxdeploy.exporter.result import Lowered
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import ModelFile


def test_stages_share_what_they_compute() -> None:
    fp32, int8 = OnnxModel(b"a"), OnnxModel(b"b")
    pixels = OnnxModel(b"d")  # what ships for x86 takes the picture's bytes, and answers the same
    files = (ModelFile("int8-arm", OnnxModel(b"c"), "s", ("arm",), int8), ModelFile("int8", pixels, "s", (), int8))
    assert list(Lowered(files).stages(fp32)) == ["onnx-fp32", "onnx-int8"]


def test_a_file_on_pixels_names_the_stage_and_not_the_arm_file_that_shares_its_answers() -> None:
    fp32, scaled, pixels, arm = (OnnxModel(bytes([number])) for number in range(4))
    files = (
        ModelFile("int8-arm", arm, "static-w8c-a8i", ("arm",), scaled),
        ModelFile("int8", pixels, "static-w8c-a8", (), scaled),
    )
    assert Lowered(files).stages(fp32) == {"onnx-fp32": fp32, "onnx-int8": scaled}


def test_x86_loads_the_file_that_reads_pixels() -> None:
    fp32, scaled, pixels, arm = (OnnxModel(bytes([number])) for number in range(4))
    files = (ModelFile("int8-arm", arm, "s", ("arm",), scaled), ModelFile("int8", pixels, "s", ("vnni",), scaled))
    assert Lowered(files).shipped(fp32) == {"onnx-fp32": fp32, "onnx-int8": pixels}
