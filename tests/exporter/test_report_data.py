"""The data that an export hands to its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from xxdeploy.engine import Batch, EngineOptions
from xxdeploy.exporter import ExportPlan
from xxdeploy.exporter.options import follow
from xxdeploy.exporter.precision import Lowered, ModelFile
from xxdeploy.exporter.report_data import command_of, measured
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.report.pictures import data_uri
from xxdeploy.results import Accuracy

LENET = find("lenet")


def test_the_command_asks_for_the_same(tmp_path: Path) -> None:
    plan = ExportPlan(
        "int8", "none", BuildOptions(alpha=0.5, input_size=96, include_top=False, pooling="avg"),
        calibration=tmp_path / "train set", samples=64, recipe="mobilenet", preprocess=str(tmp_path / "mine.toml"),
        custom_objects=("a:b", "c:d"), unsafe_lambda=True,
        engine=EngineOptions(gpus=("sm86", "sm89"), batch=Batch(1, 2, 4)),
    )  # fmt: skip
    said = command_of("mobilenet", plan)
    assert said == (
        "xxdeploy export mobilenet --int8 --weights none --alpha 0.5 --input-size 96 --no-top --pooling avg "
        "--preprocess mine.toml --custom-objects a:b --custom-objects c:d --unsafe-lambda --calibration 'train set' "
        "--samples 64 --recipe mobilenet --target tensorrt-rtx --gpu sm86,sm89 --batch 1,2,4"
    )
    assert str(tmp_path) not in said
    assert command_of("lenet", ExportPlan()) == "xxdeploy export lenet"


def test_images_that_changed_class_are_shown_and_counted(images: Path) -> None:
    plan = ExportPlan("int8", "none", calibration=images / "plain", evaluation=images / "labelled")
    inputs = follow(LENET, plan)
    before = tuple(range(10)) * 2
    after = (1, 2, *before[2:])
    accuracies = [Accuracy("keras", 1.0, 1.0, before), Accuracy("onnx-fp32", 1.0, 1.0, before)]
    accuracies.append(Accuracy("onnx-int8", 0.9, 1.0, after))
    seen = measured("lenet", plan, inputs, Lowered(()), timings=(), accuracies=accuracies, steps=(), sentences=())
    assert (seen.candidate, seen.changes) == ("onnx-int8", 2)
    assert [(each.before, each.after) for each in seen.changed] == [("class-0", "class-1"), ("class-1", "class-2")]
    assert all(each.picture.startswith("data:image/jpeg;base64,") for each in seen.changed)
    assert len(seen.sheet) == 20
    assert seen.confused[0] == ("class-0", "class-1", 1)
    without = measured(
        "lenet", replace(plan, pictures=False), inputs, Lowered(()), timings=(), accuracies=accuracies, steps=(),
        sentences=(),
    )  # fmt: skip
    assert without.sheet == ()
    assert [each.picture for each in without.changed] == ["", ""]


def test_a_picture_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert data_uri(tmp_path / "gone.png", 64) == ""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert data_uri(tmp_path / "broken.png", 64) == ""
    Image.effect_noise((2000, 2000), 90).save(tmp_path / "large.png")
    assert len(data_uri(tmp_path / "large.png", 64)) < 6000


def test_stages_share_what_they_compute(images: Path) -> None:
    from xxdeploy.onnxmodel.model import OnnxModel

    fp32, int8 = OnnxModel(b"a"), OnnxModel(b"b")
    pixels = OnnxModel(b"d")  # what ships for x86 takes the picture's bytes, and answers the same
    files = (ModelFile("int8-arm", OnnxModel(b"c"), "s", ("arm",), int8), ModelFile("int8", pixels, "s", (), int8))
    assert list(Lowered(files).stages(fp32)) == ["onnx-fp32", "onnx-int8"]


def test_a_file_on_pixels_names_the_stage_and_not_the_arm_file_that_shares_its_answers() -> None:
    from xxdeploy.onnxmodel.model import OnnxModel

    fp32, scaled, pixels, arm = (OnnxModel(bytes([number])) for number in range(4))
    files = (
        ModelFile("int8-arm", arm, "static-w8c-a8i", ("arm",), scaled),
        ModelFile("int8", pixels, "static-w8c-a8", (), scaled),
    )
    assert Lowered(files).stages(fp32) == {"onnx-fp32": fp32, "onnx-int8": scaled}
