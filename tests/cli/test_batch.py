"""``xxdeploy export`` of more than one bundle; with a stand-in for what runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from unusual_options import options_with

from xxdeploy.batch import run as batch_run
from xxdeploy.batch.jobs import SET_BY_BATCH, Job
from xxdeploy.batch.records import JobRecord
from xxdeploy.batch.run import Resources
from xxdeploy.cli import main
from xxdeploy.exporter.option_fields import words_of
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.models.catalog import CATALOG

Capture = pytest.CaptureFixture[str]
CARD = {"variants": {"fp32": {"nodes": 12, "bytes": 624_364}}, "parity": {"onnx-fp32": {"max_abs": 1e-7}}}


class FakeRun:
    """Notes what is asked for; every job is done but those in ``fails``."""

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.jobs: tuple[Job, ...] = ()
        self.out = Path()
        self.resources: Resources | None = None
        self.force = False

    def __call__(
        self, jobs: Sequence[Job], out: Path, resources: Resources, *, force: bool, on_job: Any, execute: Any
    ) -> tuple[JobRecord, ...]:
        assert execute is None
        self.jobs, self.out, self.resources, self.force = tuple(jobs), out, resources, force
        out.mkdir(parents=True, exist_ok=True)
        error = {"code": "parity", "message": "not the same \x1b[31m", "hint": "look"}
        records = tuple(
            JobRecord(job.name, "d", "failed", 3.0, error=error)
            if job.name in self.fails
            else JobRecord(job.name, "d", "done", 12.0, 700_000_000, "m", CARD)
            for job in jobs
        )
        for job, record in zip(jobs, records, strict=True):
            on_job(job, record)
        return records


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRun:
    fake = FakeRun()
    monkeypatch.setattr(batch_run, "run_jobs", fake)
    monkeypatch.chdir(tmp_path)
    return fake


def test_names(fake: FakeRun) -> None:
    assert main(["export", "LeNet", "vgg-16", "--weights", "none"]) == 0
    assert [(job.name, dict(job.options)) for job in fake.jobs] == [
        ("lenet-fp32", {"weights": "none"}),
        ("vgg16-fp32", {"weights": "none"}),
    ]
    assert fake.out == Path("exports")
    assert not fake.force


def test_all(fake: FakeRun) -> None:
    assert main(["export", "--all", "--weights", "none", "--precisions", "fp32,int8", "--calibration", "t"]) == 0
    assert len(fake.jobs) == 2 * len(CATALOG)


def test_one_network_in_several_precisions(fake: FakeRun) -> None:
    assert main(["export", "lenet", "--weights", "sample", "--precisions", "fp32,int8"]) == 0
    assert [job.name for job in fake.jobs] == ["lenet-sample-fp32", "lenet-sample-int8"]


def test_a_file(fake: FakeRun, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[[network]]\nmodel = "lenet"\noptions = { weights = "sample" }')
    assert main(["export", "m.toml", "--int8"]) == 0
    assert [(job.name, dict(job.options)) for job in fake.jobs] == [("lenet-sample-int8", {"weights": "sample"})]


def test_options_arrive_as_they_would_at_a_single_export(fake: FakeRun) -> None:
    line = "lenet mobilenet --int8 --eval val --calibration train --samples 9 --max-drop 0 --seed 0 --no-top --force"
    assert main(["export", *line.split(), "--input-size", "96", "--out", "there"]) == 0
    assert dict(fake.jobs[0].options) == {
        "eval": "val",
        "calibration": "train",
        "samples": 9,
        "max-drop": 0.0,
        "seed": 0,
        "no-top": True,
        "input-size": 96,
    }
    assert fake.force
    assert fake.out == Path("there")


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_goes_to_the_jobs(fake: FakeRun, name: str) -> None:
    options = options_with(name)
    given = {option.name: value for option, value in options.given().items()}
    assert main(["export", "lenet", "vgg16", *words_of(given)]) == 0
    own = {option: value for option, value in given.items() if option not in SET_BY_BATCH}
    expected = {option: str(value) if isinstance(value, Path) else value for option, value in own.items()}
    assert [dict(job.options) for job in fake.jobs] == [expected, expected]
    assert {job.precision for job in fake.jobs} == {options.precision.name}
    assert fake.force == options.output.force


def test_options_of_int8_stay_with_int8(fake: FakeRun) -> None:
    assert main(["export", "lenet", "--precisions", "fp32,int8", "--keep-fp32", "--weights", "sample"]) == 0
    assert [dict(job.options) for job in fake.jobs] == [
        {"weights": "sample"},
        {"weights": "sample", "keep-fp32": True},
    ]


def test_resources(fake: FakeRun) -> None:
    line = "lenet mobilenet --jobs 3 --memory 8 --memory-per-cell 1.5 --timeout 60"
    assert main(["export", *line.split()]) == 0
    assert fake.resources == Resources(3, 8_000_000_000, 1_500_000_000, 60.0)


def test_what_a_person_sees(fake: FakeRun, capsys: Capture) -> None:
    assert main(["export", "lenet", "vgg16"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "1/2 lenet-fp32: done, 0.6 MB, 12 s, 0.7 GB",
        "2/2 vgg16-fp32: done, 0.6 MB, 12 s, 0.7 GB",
    ]
    assert out.splitlines() == [
        "bundle            nodes    size  largest difference  took  memory",
        "─────────────────────────────────────────────────────────────────",
        "lenet-fp32  done     12  0.6 MB               1e-07  12 s  0.7 GB",
        "vgg16-fp32  done     12  0.6 MB               1e-07  12 s  0.7 GB",
        "",
        "wrote exports/summary.json and exports/summary.html",
    ]


def test_a_failure_is_told_and_is_the_exit_status(fake: FakeRun, capsys: Capture) -> None:
    fake.fails = {"vgg16-fp32"}
    assert main(["export", "lenet", "vgg16"]) == 6
    out, err = capsys.readouterr()
    assert "vgg16-fp32: parity: not the same \\x1b[31m" in out
    assert "\x1b" not in out + err.replace("\x1b[1;31m", "").replace("\x1b[0m", "")
    assert "error[matrix-failed]: 1 of 2 bundles failed: vgg16-fp32" in err
    assert json.loads(Path("exports/summary.json").read_text())["failed"] == 1


def test_json(fake: FakeRun, capsys: Capture) -> None:
    fake.fails = {"vgg16-fp32"}
    assert main(["export", "lenet", "vgg16", "--json"]) == 6
    out, err = capsys.readouterr()
    assert [record["state"] for record in json.loads(out)["cells"]] == ["done", "failed"]
    assert json.loads(err)["error"]["code"] == "matrix-failed"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--all lenet", "bad-matrix"),
        ("", "missing-argument"),
        ("lenet --jobs 2", "bad-matrix"),
        ("lenet --cluster tcp://127.0.0.1:9", "bad-matrix"),
        ("lenet vgg16 --jobs 0", "bad-limits"),
        ("lenet vgg16 --int8 --precisions fp32", "bad-matrix"),
        ("lenet --precisions fp64", "unknown-precision"),
        ("lenet LeNet", "repeated-cell"),
        ("lenet lenett", "unknown-model"),
        ("absent.toml", "no-matrix"),
        ("a.toml lenet", "bad-matrix"),
    ],
)
def test_what_makes_no_sense_runs_nothing(fake: FakeRun, capsys: Capture, line: str, code: str) -> None:
    assert main(["export", *line.split()]) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert fake.jobs == ()
