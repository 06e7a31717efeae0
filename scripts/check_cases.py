"""Export the cases of ``../shared/cases`` and compare the bundles with the right answers of the models in memory.

    python scripts/check_cases.py                # all cases, FP32
    python scripts/check_cases.py --int8 16 19   # those with such a part in their names, in INT8

``build_cases.py`` there builds each model, saves it, and stores the answers that it gave before. The script gives the
files to ``xxdeploy export`` with the preprocessing that the case names, and runs the bundles on its pictures. The exit
status is 1 if an answer differs, a case is refused that should export, or one exports that should be refused.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BUILDER = ROOT.parent / "shared" / "cases" / "build_cases.py"
REFUSED = {
    "31-crnn-ctc": "unsupported-layer",
    "34-dropout-training-true": "training-mode",
    "36-four-channels": "preprocess-names",
}
"""The cases that are refused, with the code of the error."""
OPTIONS: dict[str, dict[str, Any]] = {"32-dynamic-size": {"input_size": 32}}
TOLERANCES = {"11-mixed-float16": 2e-2}
"""Of the largest difference from an answer of the model in memory; 1e-4 for the others."""
MAY_EXPORT = {"31-crnn-ctc"}
"""Of ``REFUSED``, those that may export with the right answers instead."""


def build(folder: Path, names: list[str]) -> list[dict[str, str]]:
    """Build the cases whose names contain one of ``names`` (all, if empty) and return their index."""
    environment = os.environ | {"CASES_OUT": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, str(BUILDER), *names], env=environment, check=True, stdout=subprocess.DEVNULL)
    index: list[dict[str, str]] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return index


def export_case(case: dict[str, str], folder: Path, *, int8: bool = False) -> Path:
    """Export a case to ``folder``, in INT8 calibrated on its own pictures; return the bundle."""
    from PIL import Image

    from xxdeploy.exporter import ExportOptions, export

    asked: dict[str, Any] = dict(OPTIONS.get(case["name"], {}))
    if case["preprocess"] != "in-model":
        asked["preprocess"] = case["preprocess"]
    if int8:
        asked["calibration"] = folder / f"{case['name']}-pictures"
        asked["calibration"].mkdir()
        for number, pixels in enumerate(np.load(folder / f"{case['name']}.npz")["pixels"]):
            Image.fromarray(pixels.squeeze()).save(asked["calibration"] / f"{number}.png")
    options = ExportOptions.of("int8" if int8 else "fp32", **asked)
    return export(folder / case["file"], options, folder / f"{case['name']}-bundle").bundle


def answers(bundle: Path, pixels: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a bundle for pictures (n, height, width, channels) uint8."""
    from xxdeploy.runtime import load

    with load(bundle) as runtime:
        return list(runtime.run(list(pixels)).values())


def outcome(case: dict[str, str], folder: Path, *, int8: bool) -> tuple[bool, str]:
    """Return whether a case holds, and what happened."""
    from xxdeploy.errors import XXDeployError

    stored = np.load(folder / f"{case['name']}.npz")
    try:
        bundle = export_case(case, folder, int8=int8)
    except XXDeployError as refusal:
        return REFUSED.get(case["name"]) == refusal.code, f"refused, {refusal.code}: {refusal.message}"
    rights = [stored[name] for name in sorted(stored.files) if name.startswith("y")]
    if case["name"] in REFUSED.keys() - MAY_EXPORT:
        return False, "exports, and should be refused"
    if not rights:
        return True, "exports; Keras itself has no answer here"
    given = answers(bundle, stored["pixels"])
    if int8:
        pairs = zip(given, rights, strict=True)
        cosine = min(float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in pairs)
        return cosine > 0.98, f"INT8, cosine {cosine:.5f}"
    largest = max(float(np.abs(a - b).max()) for a, b in zip(given, rights, strict=True))
    return largest <= TOLERANCES.get(case["name"], 1e-4), f"differs by {largest:.1e}"


def main() -> int:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names; all cases without any")
    parser.add_argument("--int8", action="store_true", help="export to INT8 instead of FP32")
    asked = parser.parse_args()
    if not BUILDER.is_file():
        raise SystemExit(f"{BUILDER} is absent: the cases are not part of the project")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="xxdeploy-cases-") as folder:
        for case in build(Path(folder), asked.names):
            holds, said = outcome(case, Path(folder), int8=asked.int8)
            failed += not holds
            print(f"{'holds' if holds else 'FAILS':6} {case['name']:28} {said}", flush=True)
    print(f"{failed} cases fail")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
