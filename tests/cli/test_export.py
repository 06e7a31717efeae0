from __future__ import annotations

import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from unusual_options import options_with

from xxdeploy import exporter as pipeline
from xxdeploy.cli import main
from xxdeploy.cli.output import print_rows
from xxdeploy.errors import VerificationError
from xxdeploy.exporter import ExportOptions, ExportResult, TableRow
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.exporter.report_data import command_of
from xxdeploy.exporter.result import Conclusions
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.results import ComparisonRecord, OnProgress, Parity, Progress, Rung, StepRecord
from xxdeploy.runtime import load

Capture = pytest.CaptureFixture[str]


class FakeExport:
    """Notes how it is called, and gives a result as the pipeline does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ExportOptions, Path]] = []
        self.error: Exception | None = None
        self.changes: dict[str, Any] = {}

    def __call__(
        self, spec: ModelSpec, plan: ExportOptions, out: Path, *, on_progress: OnProgress | None = None
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
                Parity("keras", "onnx-fp32", 32, 3.14e-7, 1e-9, 1e-6, 0.9999999, 1.0, optimized=False),
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
    assert fake.calls == [("mobilenetv2", ExportOptions(), Path("exports/mobilenetv2-fp32"))]


@pytest.mark.slow
def test_the_command_of_the_pitch_ends_with_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the real weights where they are, else with those that ship (their command, their images)."""
    monkeypatch.chdir(tmp_path)
    real = any(Path(os.environ.get("KERAS_HOME", "none"), "models").glob("mobilenet_v2*_224.h5"))
    assert main(["export", "mobilenetv2", "--int8", *(() if real else ("--weights", "sample"))]) == 0
    name = "mobilenetv2-int8" if real else "mobilenetv2-sample-int8"
    assert load(Path("exports") / name, selftest=True).manifest.name == name
    out = " ".join(capsys.readouterr().out.split())
    assert f"wrote exports/{name}, with report.html" in out
    if real:
        assert "240 random crops of 16 photographs, judged on 240 crops of 5 other photographs" in out
        assert "calibrate on images like those in use: --calibration FOLDER" in out


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_arrives(fake: FakeExport, name: str) -> None:
    """The words of the report's command are parsed to the same options."""
    options = options_with(name)
    words = shlex.split(command_of("mobilenetv2", options))
    assert any(word.partition("=")[0] == f"--{name}" for word in words)
    assert main(words[1:]) == 0
    assert fake.calls[0][1] == options


def test_the_flags_of_the_precision(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--fp16"]) == 0
    assert fake.calls[0][1:] == (ExportOptions.of("fp16"), Path("exports/mobilenetv2-fp16"))
    assert main(["export", "mobilenetv2", "--fp16", "--int8"]) == 2
    assert "error[two-precisions]" in capsys.readouterr().err


def test_out(fake: FakeExport) -> None:
    assert main(["export", "lenet", "--out", "some/where"]) == 0
    assert fake.calls[0][2] == Path("some/where")


def test_what_a_person_sees(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--int8", "--out", "my bundle"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("Downloading data\nconvert (")
    assert out.splitlines() == [
        "             MB  p50 ms  top-1 %  top-5 %  lost points  agree %  max diff",
        "─────────────────────────────────────────────────────────────────────────",
        "keras         -    45.2     79.5     94.5            -        -         -",
        "onnx-int8  3.70    3.62     79.1        -          0.4     98.5         -",
        "onnx-fp32     -       -        -        -            -        -   4.2e-07",
        "max diff: the largest difference from keras in any output, on 32 images",
        "",
        "note: the sample weights know clothes only",
        "",
        "wrote 'my bundle', with report.html",
        "next: xxdeploy predict 'my bundle' PHOTO.jpg",
    ]


def selected(agreement: float, change: float, kl: float) -> ComparisonRecord:
    """A comparison on 256 selection images."""
    return ComparisonRecord(
        "onnx-fp32", "onnx-int8", 256, 0.9, agreement=agreement, agreement_interval=(0.9, 1.0), kl_nats=kl,
        top1=(0.8, 0.8 + change), change=change, change_interval=(-0.1, 0.1),
    )  # fmt: skip


def test_the_ladder_sentences_and_processors_have_their_place(fake: FakeExport, capsys: Capture) -> None:
    fake.changes = {
        "rungs": (
            Rung("plain", True, selected(0.9883, -0.004, 0.0037), 3.87, 7.96, 8.2),
            Rung(
                "calibrator", False, selected(0.9766, 0.004, 0.0038), 3.9, 7.8, 28.1, "KL is not 3 % lower", 31.4, 0.005
            ),
        ),
        "conclusions": Conclusions(
            ("onnx-int8: same class on 98.8 %",),
            ("PASS min-agreement 98 (onnx-int8): 98.8 %",),
            ("WARNING: no better than chance",),
        ),
        "processors": ("int8, for x86: exact", "int8-arm, for ARM: the same"),
    }
    assert main(["export", "mobilenetv2", "--int8"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "WARNING: no better than chance"
    assert out[1:9] == [
        "INT8 compared with float on 256 images:",
        "rung                                    expected  agree %  KL nats  lost points  of float  seconds",
        "──────────────────────────────────────────────────────────────────────────────────────────────────",
        "plain       taken                              -     98.8   0.0037          0.4     0.49x        8",
        "calibrator  left: KL is not 3 % lower  31 s, 0.5     97.7   0.0038         -0.4     0.50x       28",
        "expected: the seconds and the gain in points of agreement, before the rung was climbed",
        "of float: the time of an image as a multiple of the float model's, before the files are made",
        "",
    ]
    assert out[-12:] == [
        "",
        "PASS min-agreement 98 (onnx-int8): 98.8 %",
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
    ]


def test_rungs_of_features_and_without_labels(fake: FakeExport, capsys: Capture) -> None:
    fake.changes = {
        "rungs": (Rung("plain", True, ComparisonRecord("onnx-fp32", "onnx-int8", 20, 0.9, 31.26), 3.87, 7.96, 8.2),)
    }
    assert main(["export", "mobilenetv2", "--int8", "--no-top"]) == 0
    assert "SQNR" not in capsys.readouterr().out  # one rung: there was no choice
    assert main(["export", "mobilenetv2", "--int8", "--no-top", "--verbose"]) == 0
    assert capsys.readouterr().out.splitlines()[1:4:2] == [
        "rung          SQNR dB  of float  seconds",
        "plain  taken     31.3     0.49x        8",
    ]


def test_columns_that_were_not_measured_are_left_out(capsys: Capture) -> None:
    print_rows([TableRow("keras", 14_200_000, 21.9, None, None, None), TableRow("onnx", None, 7.9, None, None, None)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()[::2]] == [
        ["MB", "p50", "ms"],
        ["keras", "14.2", "21.9"],
    ]


def test_features_are_not_predicted(fake: FakeExport, capsys: Capture) -> None:
    fake.changes["task"] = "features"
    fake.changes["rows"] = (TableRow("keras", None, 45.21, None, None, None),)
    assert main(["export", "mobilenetv2", "--no-top"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[:4:3] == ["           p50 ms  max diff  cosine", "onnx-fp32       -   4.2e-07  1.0000"]
    assert out.endswith("next: xxdeploy bench exports/mobilenetv2-fp32\n")


def test_a_page_is_served_next(
    fake: FakeExport, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exports/mobilenetv2-fp32").mkdir(parents=True)
    Path("exports/mobilenetv2-fp32/index.html").touch()
    assert main(["export", "mobilenetv2"]) == 0
    assert capsys.readouterr().out.endswith("next: xxdeploy serve exports/mobilenetv2-fp32\n")


def test_json_is_all_there_is(fake: FakeExport, capsys: Capture) -> None:
    assert main(["export", "mobilenetv2", "--int8", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["bundle"] == "exports/mobilenetv2-int8"
    assert document["rows"][1]["agreement"] == 0.9852
    assert [parity["max_abs"] for parity in document["parities"]] == [3.14e-7, 4.2e-7]
    assert document["steps"] == [{"step": "convert", "facts": {"nodes": 100}, "seconds": 1.5}]
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
        "error[unknown-model]: there is no model called 'mobilnetv2'\n"
        " hint: did you mean MobileNetV2, MobileNet, MobileNetV3Small?\n",
    )
    assert fake.calls == []
