from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.bundle.pack import pack
from xxdeploy.cli import main
from xxdeploy.runtime.bundle.strict_json import JsonValue

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.make(tmp_path / "tiny")


def test_a_bundle(bundle: Path, capsys: Capture) -> None:
    assert main(["inspect", str(bundle)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in ("tiny-0", "classification", "image (batch, 8, 8, 3), tf, squash", "probabilities, 10 classes"):
        assert text in out
    assert "portable  fp32       float32  -      0.5 kB" in out
    assert "made by a test" in out


def test_evidence_is_shown_as_tables_and_lines(tmp_path: Path, capsys: Capture) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    evidence: dict[str, JsonValue] = {
        "accuracy": {"images": 677, "runners": [{"top1": 0.51234, "runner": "keras"}, {"top1": 1, "runner": "int8"}]},
        "calibration": {"method": "minmax", "images": 300},
        "notes": [],
        "words": ["one", "[red]two"],
    }
    bundle = pack(dataclasses.replace(manifest, evidence=evidence), parts, tmp_path / "b")
    assert main(["inspect", str(bundle)]) == 0
    assert capsys.readouterr().out.split("\n\n", 2)[2] == (
        "accuracy: images 677\n\n"
        "accuracy, runners:\nrunner    top1\n──────────────\nkeras   0.5123\nint8         1\n\n"
        "calibration: images 300, method minmax\n\n"
        "words: one; [red]two\n"
    )


def test_a_bundle_as_json_is_its_manifest(bundle: Path, capsys: Capture) -> None:
    assert main(["inspect", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((bundle / "manifest.json").read_text())


def test_a_damaged_bundle(bundle: Path, capsys: Capture) -> None:
    (bundle / "labels.txt").write_text("x")
    assert main(["inspect", str(bundle)]) == 7
    assert capsys.readouterr().out == ""


def test_an_onnx_file(bundle: Path, capsys: Capture) -> None:
    assert main(["inspect", str(bundle / "model.onnx")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in (
        "ai.onnx 17",
        "image float32 (batch, 8, 8, 3)",
        "probabilities float32 (batch, 10)",
        "42 in 3 tensors",
    ):
        assert text in out
    assert "5, of them 1 Transpose, 0 Q, 0 DQ" in out
    assert [line.split() for line in out.splitlines()[-5:]] == [
        [name, "1"] for name in ("Gemm", "GlobalAveragePool", "Softmax", "Squeeze", "Transpose")
    ]


def test_an_onnx_file_as_json(bundle: Path, capsys: Capture) -> None:
    path = bundle / "model.onnx"
    assert main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["file"], facts["size"], facts["parameters"]) == (str(path), path.stat().st_size, 42)
    assert facts["operators"]["Transpose"] == 1


@pytest.mark.parametrize(
    ("name", "content", "status", "code"),
    [
        ("missing.onnx", None, 2, "no-file"),
        ("empty.onnx", b"", 4, "empty-model"),
        ("text.onnx", b"this is not a model at all", 4, "unreadable-onnx"),
    ],
)
def test_what_is_no_model(
    tmp_path: Path, capsys: Capture, name: str, content: bytes | None, status: int, code: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["inspect", str(tmp_path / name)]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error[{code}]: ")


def test_a_folder_that_is_no_bundle(tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(tmp_path)]) == 7
    assert capsys.readouterr().err.startswith("error[not-a-bundle]: ")
