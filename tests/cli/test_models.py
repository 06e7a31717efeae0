from __future__ import annotations

import json
import subprocess
import sys

import pytest

from xxdeploy.cli import main
from xxdeploy.models.catalog import CATALOG

Capture = pytest.CaptureFixture[str]


def test_each_network_has_a_line_that_fits_a_terminal(capsys: Capture) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[: lines.index("")]
    assert len(table) == len(CATALOG) + 2
    assert max(len(line) for line in table) <= 80
    (line,) = [line for line in table if line.startswith("MobileNetV2 ")]
    assert line.split() == ["MobileNetV2", "224", "imagenet", "3.5", "M", "14", "71.3", "90.1"]


def test_json(capsys: Capture) -> None:
    assert main(["models", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in models] == [spec.name for spec in CATALOG]
    assert models[0]["options"] == sorted(CATALOG[0].options)
    presets = {model["name"]: (model["widths"], model["sizes"]) for model in models if model["widths"]}
    assert presets["mobilenetv2"] == ([0.35, 0.5, 0.75, 1.0, 1.3, 1.4], [96, 128, 160, 192, 224])
    assert presets["mobilenetv3small"] == ([0.75, 1.0], [224])
    assert all(name.startswith("mobilenet") for name in presets)


def test_presets_of_small_networks_are_listed(capsys: Capture) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "MobileNet has ImageNet weights for --alpha 0.25, 0.5, 0.75, 1.0 and --input-size 128, 160, 192, 224" in out
    assert (
        "MobileNetV2 has ImageNet weights for --alpha 0.35, 0.5, 0.75, 1.0, 1.3, 1.4 and --input-size 96, 128," in out
    )
    assert "MobileNetV2 and LeNet have weights for Fashion-MNIST" in out


@pytest.mark.parametrize("arguments", [["models"], ["--help"], ["predict", "--help"], ["export", "--help"]])
def test_no_framework_is_imported(arguments: list[str]) -> None:
    code = f"""
import sys
from xxdeploy.cli import main
status = main({arguments!r})
heavy = {{"tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy", "PIL"}} & set(sys.modules)
sys.exit(str(heavy) if heavy else status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
