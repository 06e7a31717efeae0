from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from xxdeploy import exporter as pipeline
from xxdeploy.cli import main
from xxdeploy.cli.output import print_rows
from xxdeploy.errors import VerificationError
from xxdeploy.exporter import ExportPlan, ExportResult, TableRow
from xxdeploy.exporter.budgets import Limits
from xxdeploy.exporter.result import RungRow
from xxdeploy.models.catalog import BuildOptions, ModelSpec
from xxdeploy.results import OnProgress, Parity, Progress, StepRecord

Capture = pytest.CaptureFixture[str]


class FakeExport:
    """Notes how it is called, and gives a result as the pipeline does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ExportPlan, Path]] = []
        self.error: Exception | None = None
        self.changes: dict[str, Any] = {}

    def __call__(
        self, spec: ModelSpec, plan: ExportPlan, out: Path, *, on_progress: OnProgress | None = None
    ) -> ExportResult:
        self.calls.append((spec.name, plan, out))
        assert on_progress is not None
        print("Downloading data")  # noqa: T201 - as Keras does
        on_progress(Progress("convert", 1, 1))
        if self.error is not None:
            raise self.error
        result = ExportResult(
            bundle=out,
            rows=(
                TableRow("keras", None, 45.21, 0.795, 0.945, None),
                TableRow("onnx-int8", 3_700_000, 3.617, 0.791, None, 0.9852),
            ),
            parities=(
                Parity("keras", "onnx-fp32, unoptimized", 32, 3.14e-7, 1e-9, 1e-6, 0.9999999, 1.0),
                Parity("keras", "onnx-fp32", 32, 4.2e-7, 1e-9, 1e-6, 1.0, 1.0),
            ),
            steps=(StepRecord("convert", {"nodes": 100}, 1.5),),
            notes=("the sample weights know clothes only",),
        )
        return dataclasses.replace(result, **self.changes)


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
        ("--int8 --recipe mobilenet", {"precision": "int8", "recipe": "mobilenet"}),
        ("--int8 --recipe my/own.toml", {"precision": "int8", "recipe": "my/own.toml"}),
        ("--int8 --cpu avx2", {"precision": "int8", "cpu": "avx2"}),
        ("--int8 --min-agreement 98", {"precision": "int8", "min_agreement": 98.0}),
        ("--int8 --keep-fp32", {"precision": "int8", "keep_fp32": True}),
        ("--max-latency-ms 9.5", {"limits": Limits(latency_ms=9.5)}),
        ("--max-size-mb 4 --max-memory-mb 90", {"limits": Limits(size_mb=4.0, memory_mb=90.0)}),
        ("--ort-format", {"ort_format": True}),
        ("--top-k 5", {"top_k": 5}),
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
        "beside keras  images  largest difference  cosine  agreement",
        "───────────────────────────────────────────────────────────",
        "onnx-fp32         32             4.2e-07  1.0000      100.0",
        "",
        "note: the sample weights know clothes only",
        "",
        "wrote 'my bundle', with report.html",
        "next: xxdeploy predict 'my bundle' PHOTO.jpg",
    ]


def test_the_ladder_sentences_and_processors_have_their_place(fake: FakeExport, capsys: Capture) -> None:
    fake.changes = {
        "rungs": (
            RungRow("plain", 256, 0.9883, 0.004, 0.0037, 21.0, 3.87, 7.96, 8.2, True),
            RungRow("calibrator", 256, 0.9766, -0.004, 0.0038, 20.0, 3.9, 7.8, 28.1, False),
        ),
        "sentences": ("onnx-int8: same class on 98.8 %",),
        "processors": ("int8, for x86: exact", "int8-arm, for ARM: the same"),
    }
    assert main(["export", "mobilenetv2", "--int8"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:6] == [
        "INT8 beside float on 256 images:",
        "rung               agreement      KL  drop      p50  of float  made in",
        "──────────────────────────────────────────────────────────────────────",
        "plain       taken       98.8  0.0037   0.4  3.87 ms     0.49x      8 s",
        "calibrator  left        97.7  0.0038  -0.4  3.90 ms     0.50x     28 s",
        "",
    ]
    assert (
        out[-9:]
        == [
            "",
            "onnx-int8: same class on 98.8 %",
            "",
            "int8, for x86: exact",
            "int8-arm, for ARM: the same",
            "",
            "note: the sample weights know clothes only",
            "",
            "wrote exports/mobilenetv2-int8, with report.html",
            "next: xxdeploy predict exports/mobilenetv2-int8 PHOTO.jpg",
        ][-9:]
    )


def test_rungs_of_features_and_without_labels(fake: FakeExport, capsys: Capture) -> None:
    fake.changes = {"rungs": (RungRow("plain", 20, None, None, None, 31.26, 3.87, 7.96, 8.2, True),)}
    assert main(["export", "mobilenetv2", "--int8", "--no-top"]) == 0
    assert capsys.readouterr().out.splitlines()[1:4:2] == [
        "rung             SQNR      p50  of float  made in",
        "plain  taken  31.3 dB  3.87 ms     0.49x      8 s",
    ]


def test_columns_that_were_not_measured_are_left_out(capsys: Capture) -> None:
    print_rows([TableRow("keras", 14_200_000, 21.9, None, None, None), TableRow("onnx", None, 7.9, None, None, None)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()[::2]] == [
        ["runner", "size", "p50"],
        ["keras", "14.2", "MB", "21.9", "ms"],
    ]


def test_features_are_not_predicted(fake: FakeExport, capsys: Capture) -> None:
    fake.changes["task"] = "features"
    assert main(["export", "mobilenetv2", "--no-top"]) == 0
    out = capsys.readouterr().out
    assert "beside keras  images  largest difference  cosine\n" in out
    assert out.endswith("next: xxdeploy bench exports/mobilenetv2-fp32\n")


def test_json_is_all_there_is(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--int8", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["bundle"] == "exports/mobilenetv2-int8"
    assert result["rows"][1]["agreement"] == 0.9852
    assert [parity["max_abs"] for parity in result["parities"]] == [3.14e-7, 4.2e-7]
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
