"""``xxdeploy build``: from a bundle to an engine, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from enginenets import MACS, pictures, ranges, rtx, small, small_int8

from xxdeploy.bundle.pack import pack
from xxdeploy.cli import main
from xxdeploy.engine import EngineOptions
from xxdeploy.errors import BundleError, ConversionError, UsageError
from xxdeploy.exporter.trt_engine import build_from_bundle, make_engine
from xxdeploy.lowering.cast_fp16 import cast_fp16
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import quantize, scheme
from xxdeploy.runtime.bundle.contents import npy_from_array
from xxdeploy.runtime.bundle.manifest import GoldenSpec, Manifest, Variant
from xxdeploy.runtime.engines.engine_file import read_engine
from xxdeploy.runtime.image.preprocess import Preprocess

RTX = EngineOptions(gpus=("sm86", "sm89"))


def bundle(out: Path, models: dict[str, tuple[str, OnnxModel]]) -> Path:
    """Write a bundle with ``models``: (precision, model) by the variant's name."""
    images = np.zeros((1, 32, 32, 3), np.uint8)
    files = {"golden/inputs.npy": npy_from_array(images), "golden/outputs.npy": npy_from_array(pictures(1)[:, 0, 0])}
    variants = []
    for name, (precision, model) in models.items():
        files[f"{name}.onnx"] = model.to_bytes()
        variants.append(Variant(name, f"{name}.onnx", precision, "x", "golden/outputs.npy"))
    manifest = Manifest(
        schema=1, name="small", task="classification", input_name="image", output_name="probabilities",
        preprocess=Preprocess(32, 32), classes=10, labels=None, variants=tuple(variants),
        golden=GoldenSpec("golden/inputs.npy", 1.0), files=(), tools={}, source={}, evidence={},
    )  # fmt: skip
    return pack(manifest, files, out)


def cpu_int8() -> OnnxModel:
    return quantize(small(), ranges(small()), scheme("static-w8c-a8"))


@rtx
def test_the_best_variant_in_tensorrts_layout_is_taken(tmp_path: Path) -> None:
    models = {"fp32": ("fp32", small()), "int8": ("int8", cpu_int8()), "fp16": ("fp16", cast_fp16(small()).model)}
    built = build_from_bundle(bundle(tmp_path / "b", models), RTX, tmp_path / "e")
    assert (built.variant, built.engine.options.precision) == ("fp16", "fp16")
    models["int8-tensorrt"] = ("int8", small_int8())
    built = build_from_bundle(bundle(tmp_path / "c", models), RTX, tmp_path / "f")
    assert built.variant == "int8-tensorrt"
    record, plan = read_engine(built.folder)
    assert record.model_sha256 == models["int8-tensorrt"][1].digest
    assert plan == built.engine.plan
    assert record.proof["shares"] == {"int8": 1.0}


def test_the_cpus_int8_is_refused_before_tensorrt_is_even_there(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", {"int8": ("int8", cpu_int8())})
    with pytest.raises(UsageError) as refused:
        build_from_bundle(made, RTX, tmp_path / "e")
    assert refused.value.code == "no-engine-variant"
    with pytest.raises(ConversionError, match="zero point") as caught:
        build_from_bundle(made, RTX, tmp_path / "e", variant="int8")
    assert caught.value.code == "tensorrt-layout"
    with pytest.raises(ConversionError):
        make_engine(cpu_int8(), replace(RTX, precision="int8"))
    assert not (tmp_path / "e").exists()


def test_a_changed_model_is_never_parsed(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", {"fp32": ("fp32", small())})
    content = bytearray((made / "fp32.onnx").read_bytes())
    content[-1] ^= 1
    (made / "fp32.onnx").write_bytes(content)
    with pytest.raises(BundleError) as caught:
        build_from_bundle(made, RTX, tmp_path / "e")
    assert caught.value.code == "file-hash"


def test_unknown_variants_and_folders_in_the_way(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", {"fp32": ("fp32", small())})
    with pytest.raises(UsageError) as caught:
        build_from_bundle(made, RTX, tmp_path / "e", variant="int8")
    assert caught.value.code == "unknown-variant"
    with pytest.raises(UsageError) as caught:
        build_from_bundle(made, RTX, made)
    assert caught.value.code == "output-not-an-engine"


@rtx
def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = bundle(tmp_path / "b", {"int8": ("int8", small_int8())})
    assert main(["build", str(made), "--gpu", "sm86,sm89", "--batch", "1,2,4"]) == 0
    out = capsys.readouterr().out
    assert "100.0 % int8" in out
    assert "sm86, sm89" in out
    assert (tmp_path / "b-engine" / "engine.plan").is_file()
    assert main(["build", str(made), "--gpu", "sm86"]) == 2
    assert "output-exists" in capsys.readouterr().err
    assert main(["build", str(made), "--gpu", "sm86", "--force", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["macs"] == MACS
    assert facts["depth"] == "network"


def test_what_the_command_line_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code in (
        (["--gpu", "sm90"], "unknown-gpu"),
        (["--batch", "8,1"], "bad-batch"),
        (["--target", "tensorrt", "--gpu", "sm86"], "gpu-without-rtx"),
    ):
        assert main(["build", str(tmp_path), *arguments]) == 2
        assert code in capsys.readouterr().err
