"""What an export hands to its report, and reports of bundles that are there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from xxdeploy.cli import main
from xxdeploy.diagnose.report_bundles import compare_bundles, report_bundle
from xxdeploy.engine import Batch, EngineOptions
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.exporter import ExportPlan, export
from xxdeploy.exporter.options import follow
from xxdeploy.exporter.precision import Lowered, ModelFile
from xxdeploy.exporter.report_data import command_of, measured
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.report.pictures import data_uri
from xxdeploy.results import Accuracy

LENET = find("lenet")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """LeNet's sample in FP32 and INT8."""
    root = tmp_path_factory.mktemp("bundles")
    return (
        export(LENET, ExportPlan("fp32", "sample"), root / "float").bundle,
        export(LENET, ExportPlan("int8", "sample"), root / "int8").bundle,
    )


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


def test_the_page_of_a_bundle(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    found = report_bundle(bundles[1], None)
    assert found.page == bundles[1] / "report.html"
    assert "xxdeploy export lenet --int8 --weights sample" in found.page.read_text()
    copy = report_bundle(bundles[1], tmp_path / "sub" / "copy.html").page
    assert copy.read_bytes() == found.page.read_bytes()
    with pytest.raises(UsageError) as caught:
        report_bundle(bundles[1], tmp_path)
    assert caught.value.code == "output-unwritable"


def test_a_page_that_somebody_changed_is_not_shown(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    bundle = Path(shutil.copytree(bundles[1], tmp_path / "b"))
    (bundle / "report.html").write_text((bundle / "report.html").read_text().replace("100.0", "100.1"))
    with pytest.raises(BundleError) as caught:
        report_bundle(bundle, None)
    assert caught.value.code == "file-hash"
    # A bundle of before there were reports gets one of its manifest, beside it.
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"] = [entry for entry in manifest["files"] if entry["path"] != "report.html"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    page = report_bundle(bundle, None).page
    assert page == tmp_path / "b-report.html"
    assert "lenet-int8" in page.read_text()


def test_two_bundles(bundles: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare_bundles(*bundles, tmp_path / "c.html")
    rows = {row.name: row for row in found.rows}
    assert (rows["variant here"].left, rows["top-1"].change != "") == ("fp32, float32", True)
    assert rows["time here, p50"].change
    assert "A lenet-fp32 and B lenet-int8" in found.page.read_text()
    assert main(["report", str(bundles[0]), str(bundles[1]), "--out", str(tmp_path / "d.html")]) == 0
    out = capsys.readouterr().out
    assert "B beside A" in out
    assert f"open {(tmp_path / 'd.html').as_uri()}" in out
    assert main(["report", str(bundles[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == str(bundles[0] / "report.html")
    assert main(["report", str(tmp_path / "nothing")]) == 7


def test_a_file_on_pixels_names_the_stage_and_not_the_arm_file_that_shares_its_answers() -> None:
    from xxdeploy.onnxmodel.model import OnnxModel

    fp32, scaled, pixels, arm = (OnnxModel(bytes([number])) for number in range(4))
    files = (
        ModelFile("int8-arm", arm, "static-w8c-a8i", ("arm",), scaled),
        ModelFile("int8", pixels, "static-w8c-a8", (), scaled),
    )
    assert Lowered(files).stages(fp32) == {"onnx-fp32": fp32, "onnx-int8": scaled}
