"""Write the digests of every model file that xxdeploy makes, before and after a change that must not alter a model.

    python scripts/model_digests.py before.json
    python scripts/model_digests.py after.json --against before.json

The script exports every network by name in INT8 with random weights (``--weights none``, seed 0) and four synthetic
calibration images, and records the SHA-256 of the optimized FP32 model and of every INT8 file. It exports the sample
bundles in FP32, FP16 and INT8 with their real calibration images, and records the SHA-256 of every file except the
report, which shows times. Exports use the command line, so the script can also compare two versions of xxdeploy with
different modules: set ``PYTHONPATH`` to the other checkout. Models in ONNX Runtime's own format are not compared, since
onnxruntime does not write the same bytes twice.

Everything takes about 12 minutes on two cores; ``--only NAME`` (repeatable) exports a part.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from xxdeploy.models.catalog import CATALOG

CALIBRATION_IMAGES = 4
SAMPLES = ("lenet", "mobilenetv2")
SAMPLE_OPTIONS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "fp16": ("--fp16",),
    "int8": ("--int8",),
    "int8-rounding": ("--int8", "--recipe", "mobilenet"),
    "int8-top-k": ("--int8", "--top-k", "3", "--keep-fp32", "--cpu", "avx2"),
    "int8-ort": ("--int8", "--cpu", "vnni", "--ort-format"),
}


def calibration_folder(folder: Path) -> Path:
    """Write ``CALIBRATION_IMAGES`` seeded images of 64 x 64 pixels, smooth shapes under noise, as PNG."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:64, 0:64] / 64
    for index in range(CALIBRATION_IMAGES):
        waves = [np.sin(2 * np.pi * (rows * a + columns * b)) for a, b in generator.uniform(0, 4, (3, 2))]
        pixels = 128 + 90 * np.stack(waves, axis=-1) + generator.normal(0, 12, (64, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


def jobs(calibration: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each export and its arguments, the smallest network first."""
    for model in SAMPLES:
        for name, options in SAMPLE_OPTIONS.items():
            if name != "int8-rounding" or model == "mobilenetv2":
                yield f"{model}-sample-{name}", ["export", model, "--weights", "sample", *options]
    random = ["--weights", "none", "--seed", "0", "--int8", "--calibration", str(calibration)]
    for spec in sorted(CATALOG, key=lambda spec: spec.parameters):
        yield spec.name, ["export", spec.name, *random]


def digests(arguments: list[str], folder: Path) -> dict[str, str]:
    """Export into ``folder``, and return the digest of each file; the FP32 model's by ``fp32``."""
    out = folder / "bundle"
    command = [sys.executable, "-m", "xxdeploy", *arguments, "--out", str(out), "--force", "--json"]
    cache = {"XDG_CACHE_HOME": str(folder / "cache"), "XXDEPLOY_CACHE": str(folder / "cache")}
    environment = {**os.environ, **cache}  # the folder, too: `python -m` looks into the working directory first
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        return {"error": ended.stderr.strip().splitlines()[-1][:300]}
    found = {"fp32": json.loads((out / "manifest.json").read_text(encoding="utf-8"))["source"]["fp32_sha256"]}
    random = "none" in arguments
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        compared = path.suffix == ".onnx" or (not random and path.suffix != ".ort")
        if path.is_file() and compared and name not in ("report.html", "manifest.json"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> int:
    """Write the digests, compare them if asked to, and return 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path, help="a record to compare with")
    parser.add_argument("--only", action="append", help="a network, or sample for the sample bundles")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    record: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory(prefix="xxdeploy-digests-") as base:
        calibration = calibration_folder(Path(base) / "calibration")
        wanted = [
            (name, arguments)
            for name, arguments in jobs(calibration)
            if not asked.only or name in asked.only or ("sample" in asked.only and "-sample-" in name)
        ]

        def run(job: tuple[str, list[str]]) -> tuple[str, dict[str, str]]:
            with tempfile.TemporaryDirectory(dir=base) as folder:
                return job[0], digests(job[1], Path(folder))

        with ThreadPoolExecutor(asked.jobs) as pool:
            for name, found in pool.map(run, wanted):
                record[name] = found
                print(name, found.get("error", "ok"), flush=True)
                asked.out.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return compare(record, json.loads(asked.against.read_text(encoding="utf-8"))) if asked.against else 0


def compare(after: dict[str, dict[str, str]], before: dict[str, dict[str, str]]) -> int:
    """Print each file that differs; return 1 if there is one."""
    different = [
        f"{name}: {file}"
        for name in after
        for file in sorted({*after[name], *before.get(name, {})})
        if after[name].get(file) != before.get(name, {}).get(file)
    ]
    print("\n".join([*different, f"{len(different)} files differ in {len(after)} exports"]))
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())
