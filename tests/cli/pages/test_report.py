from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[str, str]:
    return str(tiny_bundle.make(tmp_path / "a")), str(tiny_bundle.make(tmp_path / "b", seed=1))


def test_the_page_of_one_bundle(bundles: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["report", bundles[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"page": str(tmp_path / "a-report.html"), "rows": []}
    assert main(["report", str(tmp_path / "nothing")]) == 7


def test_a_comparison(bundles: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["report", *bundles, "--out", str(tmp_path / "c.html")]) == 0
    out = capsys.readouterr().out
    assert "B against A" in out
    assert f"open {(tmp_path / 'c.html').as_uri()}" in out


def test_peers_are_of_one_network(bundles: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    assert main(["report", *bundles, "--peers", str(tmp_path / "peers.json")]) == 2
    assert capsys.readouterr().err.startswith("error[bad-peers]: ")
