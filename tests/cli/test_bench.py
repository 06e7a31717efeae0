from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bundles(tmp_path: Path) -> list[str]:
    return [str(tiny_bundle.make(tmp_path / name, seed=seed)) for seed, name in enumerate(("one", "two"))]


def test_table(bundles: list[str], capsys: Capture) -> None:
    assert main(["bench", *bundles, "--rounds", "15", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("bench, rounds 15 (")
    names, (head, _, one, two, *_) = out.splitlines()[:2], [line.split() for line in out.splitlines()[3:]]
    assert names == ["1  one: portable, onnxruntime, 1 thread", "2  two: portable, onnxruntime, 1 thread"]
    assert head == ["p50", "p90", "p99", "engine", "images/s", "start", "memory", "speed", "spread"]
    assert (one[0], one[-2:], two[0]) == ("1", ["1.00x", "1.00..1.00"], "2")
    assert float(one[1]) <= float(one[2]) <= float(one[3])
    assert float(one[1]) / float(two[1]) == pytest.approx(float(two[-2].rstrip("x")), rel=0.5)
    low, high = map(float, two[-1].split(".."))
    assert low <= high


def test_one_bundle_has_no_columns_to_compare(bundles: list[str], capsys: Capture) -> None:
    assert main(["bench", bundles[0], "--rounds", "2"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split()[-1] == "memory"
    assert "speed" not in out


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_engines_take_turns(bundles: list[str], capsys: Capture) -> None:
    assert main(["bench", bundles[0], "--engine", "onnxruntime,openvino", "--rounds", "2", "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert (one["engine"], two["engine"]) == ("onnx-fp32", "openvino-fp32")
    assert one["path"] == two["path"] == bundles[0]
    assert two["speed_low"] <= two["speed_high"]
    assert two["peak_memory_bytes"] > one["peak_memory_bytes"]  # the child ran the engine that was asked for


def test_json(bundles: list[str], capsys: Capture) -> None:
    assert main(["bench", *bundles, "--rounds", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    one, two = json.loads(out)
    assert [one["path"], two["path"]] == bundles
    assert (one["rounds"], one["speed"]) == (2, 1.0)
    assert two["speed_low"] <= two["speed"] <= two["speed_high"]


def test_nothing_to_measure(capsys: Capture) -> None:
    assert main(["bench"]) == 2
    assert capsys.readouterr().err.startswith("error[missing-argument]: `xxdeploy bench` needs BUNDLES\n")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--rounds", "0"], "rounds-invalid"),
        (["--threads", "0"], "threads-invalid"),
        (["--engine", "abacus"], "unknown-engine"),
    ],
)
def test_options_that_make_no_sense(bundles: list[str], capsys: Capture, options: list[str], code: str) -> None:
    assert main(["bench", bundles[0], *options]) == 2
    assert capsys.readouterr().err.startswith(f"error[{code}]: ")
