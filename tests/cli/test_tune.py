from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.cli import main
from xxdeploy.runtime import tune

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "installed_engines", lambda: ("onnxruntime",))


def test_what_a_person_sees_and_who_loads_it_next(tmp_path: Path, capsys: Capture) -> None:
    bundle = str(tiny_bundle.make(tmp_path / "b"))
    assert main(["tune", bundle, "--budget", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("tune, percent 100 (")
    head, _, *rows = [line.split() for line in out.splitlines()]
    assert head == ["variant", "on", "p50", "rounds"]
    assert rows[0][:2] == ["portable", "onnxruntime"] or rows[0][:2] == ["portable", "onnxruntime,"]
    assert "fastest here: portable on onnxruntime" in out
    assert str(tmp_path.parent) in out.split("stored in ")[1]
    assert main(["bench", bundle, "--rounds", "1", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert f"fastest here: portable on {document['settings']}," in out


def test_json(tmp_path: Path, capsys: Capture) -> None:
    assert main(["tune", str(tiny_bundle.make(tmp_path / "b")), "--budget", "0.2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["choice"]["settings"]["engine"] == "onnxruntime"
    assert document["choice"]["versions"].keys() == {"onnxruntime"}
    assert len(document["tuning"]["trials"]) >= 1


@pytest.mark.parametrize(("budget", "code", "status"), [("0", "budget-invalid", 2), ("1", "not-a-bundle", 7)])
def test_failures(tmp_path: Path, capsys: Capture, budget: str, code: str, status: int) -> None:
    assert main(["tune", str(tmp_path), "--budget", budget]) == status
    assert capsys.readouterr().err.startswith(f"error[{code}]: ")
