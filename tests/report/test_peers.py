"""What benchmarks/peers.py measured, in a bundle's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from reportpages import MEASURED, NOISE, Page, manifest

from xxdeploy.cli import main
from xxdeploy.errors import UsageError
from xxdeploy.report import render_report
from xxdeploy.report.bundles import report_bundle
from xxdeploy.report.peers import MARK, peers_from_json, with_peers

ROW: dict[str, Any] = {
    "network": "tiny", "subject": "LiteRT <INT8>", "one_thread_ms": 4.35, "all_threads_ms": 5.02,
    "cold_start_ms": 199.0, "memory_mb": 56.0, "file_mb": 4.0, "agreement": 0.983, "problem": None,
    "one_thread_times_ms": [4.2, 4.3, 9.0],
}  # fmt: skip
MISSING = {**dict.fromkeys(ROW), "network": "tiny", "subject": "OpenVINO float", "problem": "not installed"}
DOCUMENT = {
    "device": {"processor": "AMD EPYC", "cores": 2, "features": ["avx2", "vnni"]},
    "rounds": 3,
    "rows": [ROW, MISSING, {**ROW, "network": "other", "subject": "not shown"}],
}


def text(**changes: object) -> bytes:
    return json.dumps({**DOCUMENT, **changes}).encode()


def test_the_section_stands_behind_the_times_and_is_escaped() -> None:
    page = render_report(manifest(), NOISE, MEASURED)
    assert page.count(MARK) == 1
    shown = with_peers(page, peers_from_json(text(), "tiny"))
    told = Page(shown).text
    for words in ("AMD EPYC, 2 cores (avx2, vnni)", "LiteRT <INT8>", "98.3", "4.0 MB", "not installed", "p99"):
        assert words in told
    assert "not shown" not in told
    assert "<INT8>" not in shown
    assert shown.index("Time of one image") < shown.index("Compared with its peers") < shown.index("Reproduce it")
    older = with_peers(page.replace(MARK, ""), peers_from_json(text(), "tiny"))
    assert older.index("Calibration") < older.index("Compared with its peers") < older.index("Reproduce it")


def test_older_files_have_medians_alone() -> None:
    old = {key: value for key, value in ROW.items() if key != "one_thread_times_ms"}
    shown = with_peers(MARK, peers_from_json(text(rows=[old]), "tiny"))
    assert "LiteRT" in shown
    assert "one dot" not in shown


@pytest.mark.parametrize(
    "damaged",
    [
        b"", b"[]", b"\xff", b"[" * 100_000, text(rows=[{**ROW, "one_thread_ms": -1}]), text(rows=7), text(device={}),
        text(rows=[{**ROW, "file_mb": "4"}]), text(rows=[{**ROW, "memory_mb": 10**400}]), text(rows=[]),
        text(rows=[{**ROW, "one_thread_times_ms": [float("nan")]}]), text(rows=[{**ROW, "network": "other"}]),
    ],
)  # fmt: skip
def test_a_damaged_file(damaged: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        peers_from_json(damaged, "tiny")
    assert caught.value.code == "bad-peers"


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    peers = tmp_path / "peers.json"
    peers.write_bytes(text())
    assert main(["report", str(bundle), "--peers", str(peers)]) == 0
    page = tmp_path / "b-report.html"
    assert page.as_uri() in capsys.readouterr().out
    assert "LiteRT &lt;INT8&gt;" in page.read_text()
    assert main(["report", str(bundle), str(bundle), "--peers", str(peers)]) == 2
    with pytest.raises(UsageError) as caught:
        report_bundle(bundle, None, tmp_path / "absent.json")
    assert caught.value.code == "bad-peers"
