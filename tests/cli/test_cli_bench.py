from __future__ import annotations

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
    assert main(["bench", *bundles, "--rounds", "3", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("bench, rounds 3 (")
    head, _, one, two, *_ = [line.split() for line in out.splitlines()]
    assert head == ["bundle", "p50", "p90", "p99", "engine", "images/s", "start", "memory", "speed"]
    assert (one[0], one[-1], two[0]) == ("one", "1.00x", "two")
    assert float(one[1]) <= float(one[2]) <= float(one[3])
    assert float(one[1]) / float(two[1]) == pytest.approx(float(two[-1].rstrip("x")), rel=0.5)


def test_json(bundles: list[str], capsys: Capture) -> None:
    assert main(["bench", *bundles, "--rounds", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    one, two = json.loads(out)
    assert [one["path"], two["path"]] == bundles
    assert (one["rounds"], one["speed"]) == (2, 1.0)
    assert two["speed"] == pytest.approx(one["p50_ms"] / two["p50_ms"])


def test_nothing_to_measure(capsys: Capture) -> None:
    assert main(["bench"]) == 2
    assert capsys.readouterr().err.startswith("error[missing-argument]: `xxdeploy bench` needs BUNDLES\n")


@pytest.mark.parametrize(
    ("options", "code"), [(["--rounds", "0"], "rounds-invalid"), (["--threads", "0"], "threads-invalid")]
)
def test_options_that_make_no_sense(bundles: list[str], capsys: Capture, options: list[str], code: str) -> None:
    assert main(["bench", bundles[0], *options]) == 2
    assert capsys.readouterr().err.startswith(f"error[{code}]: ")
