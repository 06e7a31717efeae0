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

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    layers = [LayerNoise(f"conv_{index}/Conv", "Conv", 10.0 + index, 11.0, 30.0, None, 9.0) for index in range(25)]
    layers.append(LayerNoise("dead/Conv", "Conv", *[None] * 5))
    parts, manifest = tiny_bundle.parts_and_manifest()
    parts[RECORD] = noise_to_json(layers).encode()
    variant = dataclasses.replace(manifest.variants[0], precision="int8", scheme="static-w8c-a8")
    return pack(dataclasses.replace(manifest, variants=(variant,)), parts, tmp_path / "int8")


def test_the_table(recorded: Path, capsys: Capture) -> None:
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "signal to quantization noise in dB, the worst layer first (static-w8c-a8)\n\n"
        "layer        operator  alone  weights  input  output  network\n"
        "─────────────────────────────────────────────────────────────\n"
        "conv_0/Conv  Conv       10.0     11.0   30.0       -      9.0\n"
        "conv_1/Conv  Conv       11.0     11.0   30.0       -      9.0\n\n"
        "24 other layers have 12.0 dB or more (--top 26 shows them all)\n"
        "alone: this layer is quantized, and reads the float network; weights, input, output are its parts\n"
        "network: the whole INT8 network up to this layer\n"
    )


def test_twenty_layers_by_default_and_all_on_request(recorded: Path, capsys: Capture) -> None:
    assert main(["inspect", str(recorded), "--sensitivity"]) == 0
    out = capsys.readouterr().out
    assert "conv_19/Conv" in out
    assert "conv_20/Conv" not in out
    assert "6 other layers have 30.0 dB or more (--top 26 shows them all)" in out
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "26"]) == 0
    out = capsys.readouterr().out
    assert "other layers" not in out
    assert next(line for line in out.splitlines() if "dead" in line).split() == ["dead/Conv", "Conv", *"-----"]
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "25"]) == 0
    assert "1 other layer gives zeros only (--top 26 shows them all)" in capsys.readouterr().out


def test_json_has_all_layers(recorded: Path, capsys: Capture) -> None:
    assert main(["inspect", str(recorded), "--sensitivity", "--top", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["scheme"], found["method"]) == (str(recorded), "static-w8c-a8", None)
    assert len(found["layers"]) == 26
    assert found["layers"][0] == {
        "layer": "conv_0/Conv", "operator": "Conv", "sqnr_db": 10.0, "weights_db": 11.0, "input_db": 30.0,
        "output_db": None, "accumulated_db": 9.0,
    }  # fmt: skip


def test_a_float_bundle_is_measured(tmp_path: Path, images: Path, capsys: Capture) -> None:
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


def test_no_file(tmp_path: Path, capsys: Capture) -> None:
    assert main(["inspect", str(tmp_path / "nothing"), "--sensitivity"]) == 2
    assert capsys.readouterr().err.startswith("error[no-file]: ")
