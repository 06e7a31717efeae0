from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.bundle.pack import pack
from xxdeploy.cli import main
from xxdeploy.diagnose.sensitivity import RECORD
from xxdeploy.results import LayerNoise, noise_to_json
from xxdeploy.runtime.bundle.strict_json import JsonValue

Capture = pytest.CaptureFixture[str]


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


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    layers = [LayerNoise(f"conv_{index}/Conv", "Conv", 10.0 + index, 11.0, 30.0, None, 9.0) for index in range(25)]
    layers.append(LayerNoise("dead/Conv", "Conv", *[None] * 5))
    parts, manifest = tiny_bundle.parts_and_manifest()
    parts[RECORD] = noise_to_json(layers).encode()
    variant = dataclasses.replace(manifest.variants[0], precision="int8", scheme="static-w8c-a8")
    return pack(dataclasses.replace(manifest, variants=(variant,)), parts, tmp_path / "int8")


def test_the_table_of_sensitivity(recorded: Path, capsys: Capture) -> None:
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "signal to quantization noise in dB, the worst layer first (static-w8c-a8)\n\n"
        "layer        operator  alone  weights  input  output  network\n"
        "─────────────────────────────────────────────────────────────\n"
        "conv_0/Conv  Conv       10.0     11.0   30.0       -      9.0\n"
        "conv_1/Conv  Conv       11.0     11.0   30.0       -      9.0\n\n"
        "24 other layers have 12.0 dB or more (--top 26 shows all layers)\n"
        "alone: only this layer is quantized; weights, input, output: only this part of the layer is quantized\n"
        "network: the whole network up to this layer is quantized\n"
    )


def test_twenty_layers_by_default_and_all_on_request(recorded: Path, capsys: Capture) -> None:
    assert main(["inspect", str(recorded), "--sensitivity"]) == 0
    out = capsys.readouterr().out
    assert "conv_19/Conv" in out
    assert "conv_20/Conv" not in out
    assert "6 other layers have 30.0 dB or more (--top 26 shows all layers)" in out
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "26"]) == 0
    out = capsys.readouterr().out
    assert "other layers" not in out
    assert next(line for line in out.splitlines() if "dead" in line).split() == ["dead/Conv", "Conv", *"-----"]
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "25"]) == 0
    assert "1 other layer outputs only zeros (--top 26 shows all layers)" in capsys.readouterr().out


def test_sensitivity_as_json_has_all_layers(recorded: Path, capsys: Capture) -> None:
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["file"], document["scheme"], document["method"]) == (str(recorded), "static-w8c-a8", None)
    assert len(document["layers"]) == 26
    assert document["layers"][0] == {
        "layer": "conv_0/Conv", "operator": "Conv", "sqnr_db": 10.0, "weights_db": 11.0, "input_db": 30.0,
        "output_db": None, "accumulated_db": 9.0,
    }  # fmt: skip


def test_the_layers_of_a_float_bundle_are_measured(tmp_path: Path, images: Path, capsys: Capture) -> None:
    bundle = tiny_bundle.make(tmp_path / "tiny")
    arguments = ["--sensitivity", "--calibration", str(images / "plain"), "--samples", "6", "--method", "minmax"]
    assert main(["inspect", str(bundle), *arguments]) == 0
    out, err = capsys.readouterr()
    assert "(static-w8c-a8, minmax on 6 images, noise on 6 of them)" in out
    assert "scores  " in out
    assert "calibrate 6 (" in err
    assert main(["inspect", str(bundle), *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert {layer["operator"] for layer in json.loads(out)["layers"]} == {"Gemm", "GlobalAveragePool"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--calibration", "x"], "sensitivity-options"),
        (["--top", "3"], "sensitivity-options"),
        (["--preprocess", "tf"], "sensitivity-options"),
        (["--sensitivity", "--top", "0"], "sensitivity-options"),
        (["--sensitivity"], "calibration-missing"),
        (["--sensitivity", "--preprocess", "guess"], "bad-value"),
    ],
)
def test_what_does_not_go_together(tmp_path: Path, capsys: Capture, arguments: list[str], code: str) -> None:
    bundle = tiny_bundle.make(tmp_path / "tiny")
    assert main(["inspect", str(bundle), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error[{code}]: ")


def test_no_file_to_measure(tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(tmp_path / "nothing"), "--sensitivity"]) == 2
    assert capsys.readouterr().err.startswith("error[no-file]: ")
