from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from xxdeploy import pipeline
from xxdeploy.artifacts import OnProgress, Parity, Progress, StepRecord
from xxdeploy.cli import main
from xxdeploy.cli.output import print_rows
from xxdeploy.errors import VerificationError
from xxdeploy.models.catalog import BuildOptions, ModelSpec
from xxdeploy.pipeline import ExportPlan, ExportResult, TableRow

Capture = pytest.CaptureFixture[str]


class FakeExport:
    """Notes how it is called, and gives a result as the pipeline does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ExportPlan, Path]] = []
        self.error: Exception | None = None

    def __call__(
        self, spec: ModelSpec, plan: ExportPlan, out: Path, *, on_progress: OnProgress | None = None
    ) -> ExportResult:
        self.calls.append((spec.name, plan, out))
        assert on_progress is not None
        print("Downloading data")  # noqa: T201 - as Keras does
        on_progress(Progress("convert", 1, 1))
        if self.error is not None:
            raise self.error
        return ExportResult(
            bundle=out,
            rows=(
                TableRow("keras", None, 45.21, 0.795, 0.945, None),
                TableRow("onnx-int8", 3_700_000, 3.617, 0.791, None, 0.9852),
            ),
            parities=(Parity("keras", "onnx-fp32", 32, 3.14e-7, 1e-9, 1e-6, 0.9999999, 1.0),),
            steps=(StepRecord("convert", {"nodes": 100}, 1.5),),
            notes=("the sample weights know clothes only",),
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeExport:
    fake = FakeExport()
    monkeypatch.setattr(pipeline, "export", fake)
    return fake


def test_the_plan_of_a_bare_command_is_the_default(fake: FakeExport) -> None:
    assert main(["export", "MobileNet-V2"]) == 0
    assert fake.calls == [("mobilenetv2", ExportPlan(), Path("exports/mobilenetv2-fp32"))]


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("--int8", {"precision": "int8"}),
        ("--weights sample", {"weights": "sample"}),
        ("--weights my.weights.h5", {"weights": "my.weights.h5"}),
        ("--calibration train", {"calibration": Path("train")}),
        ("--samples 512", {"samples": 512}),
        ("--method percentile", {"method": "percentile"}),
        ("--seed 7", {"seed": 7, "options": BuildOptions(seed=7)}),
        ("--eval val", {"evaluation": Path("val")}),
        ("--max-drop 0.5", {"max_drop": 0.5}),
        ("--labels names.txt", {"labels": Path("names.txt")}),
        ("--preprocess caffe", {"preprocess": "caffe"}),
        ("--resize crop", {"resize": "crop"}),
        ("--force", {"force": True}),
        ("--alpha 0.35", {"options": BuildOptions(alpha=0.35)}),
        ("--input-size 96", {"options": BuildOptions(input_size=96)}),
        ("--classes 10", {"options": BuildOptions(classes=10)}),
        ("--no-top", {"options": BuildOptions(include_top=False)}),
        ("--no-top --pooling max", {"options": BuildOptions(include_top=False, pooling="max")}),
    ],
)
def test_each_option_arrives(fake: FakeExport, line: str, changes: dict[str, Any]) -> None:
    assert main(["export", "mobilenetv2", *line.split()]) == 0
    ((_, plan, out),) = fake.calls
    assert plan == dataclasses.replace(ExportPlan(), **changes)
    assert out == Path("exports") / f"mobilenetv2-{plan.precision}"


def test_out(fake: FakeExport) -> None:
    assert main(["export", "lenet", "--out", "some/where"]) == 0
    assert fake.calls[0][2] == Path("some/where")


def test_what_a_person_sees(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--int8", "--out", "my bundle"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("Downloading data\nconvert (")
    assert out.splitlines() == [
        "runner       size      p50  top-1  top-5  agreement",
        "───────────────────────────────────────────────────",
        "keras           -  45.2 ms   79.5   94.5          -",
        "onnx-int8  3.7 MB  3.62 ms   79.1      -       98.5",
        "",
        "onnx-fp32: within 3.1e-07 of keras, cosine 1.0000, same class 100.0 % (32 images)",
        "note: the sample weights know clothes only",
        "",
        "wrote 'my bundle'",
        "next: xxdeploy predict 'my bundle' PHOTO.jpg",
    ]


def test_columns_that_were_not_measured_are_left_out(capsys: Capture) -> None:
    print_rows([TableRow("keras", 14_200_000, 21.9, None, None, None), TableRow("onnx", None, 7.9, None, None, None)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()[::2]] == [
        ["runner", "size", "p50"],
        ["keras", "14.2", "MB", "21.9", "ms"],
    ]


def test_features_are_not_predicted(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--no-top"]) == 0
    out = capsys.readouterr().out
    assert "cosine 1.0000 (32 images)\n" in out
    assert out.endswith("next: xxdeploy bench exports/mobilenetv2-fp32\n")


def test_json_is_all_there_is(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--int8", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["bundle"] == "exports/mobilenetv2-int8"
    assert result["rows"][1]["agreement"] == 0.9852
    assert result["parities"][0]["max_abs"] == 3.14e-7
    assert result["steps"] == [{"step": "convert", "facts": {"nodes": 100}, "seconds": 1.5}]
    assert err == "Downloading data\n"


def test_a_failure_has_its_status_and_no_result(fake: FakeExport, capsys: Capture) -> None:
    fake.error = VerificationError("top-1 fell", hint="calibrate", code="accuracy-drop")
    assert main(["export", "mobilenetv2", "--int8"]) == 6
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("error[accuracy-drop]: top-1 fell\n hint: calibrate\n")


def test_a_misspelt_model(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilnetv2"]) == 2
    assert capsys.readouterr() == (
        "",
        "error[unknown-model]: there is no model called 'mobilnetv2'\n hint: did you mean MobileNetV2, MobileNet?\n",
    )
    assert fake.calls == []
