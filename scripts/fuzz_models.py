"""Convert random Keras models and compare the answers: ``python scripts/fuzz_models.py [--count 500] [--int8]``.

Prints the seed of each model that fails or differs, and a count by cause. ``tests/support/random_models.py`` makes the
models; ``random_model(SEED)`` makes one again. With ``--int8`` the models are quantized, too, and those below 20 dB are
printed: a faithful copy of a small network has 25 to 45 dB. A model is called ``sensitive`` if noise of 40 dB in the
images leaves less than 26 dB in its float answers: random models round, compare and take remainders, so that a small
difference becomes a jump. 500 models take about 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

Figures = TypeVar("Figures")
TOLERANCE = 1e-3
"""Relative to the largest output."""
WEAK_DB = 20.0
SENSITIVE_DB = 26.0


def outcome(seed: int) -> str:
    """Return ``right``, ``skipped`` (Keras cannot run it), or the fault."""
    from model_answers import conversion_error
    from random_models import random_model

    model = random_model(seed)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-fuzz-") as folder:
        error = _attempt(lambda: conversion_error(model, Path(folder), seed))
    if isinstance(error, str):
        return error
    return "right" if error < TOLERANCE else f"differs by {error:.2g} of the largest output"


def quality(seed: int) -> str:
    """Return ``right``, ``skipped`` or ``sensitive: ...``; ``weak: ...`` for another copy below ``WEAK_DB``; the fault.

    A sensitive model is one whose INT8 answers are weak and whose float answers are below ``SENSITIVE_DB``, too, for
    images with a little noise.
    """
    from model_answers import int8_decibels
    from random_models import random_model

    with tempfile.TemporaryDirectory(prefix="xxdeploy-fuzz-") as folder:
        ratios = _attempt(lambda: int8_decibels(random_model(seed), Path(folder), seed))
    if isinstance(ratios, str):
        return ratios
    integer, own = ratios
    if integer >= WEAK_DB:
        return "right"
    return f"{'sensitive' if own < SENSITIVE_DB else 'weak'}: {integer:.1f} dB, {own:.1f} dB by noise in the images"


def _attempt(measure: Callable[[], Figures | None]) -> Figures | str:
    """Return what ``measure`` returns, ``skipped`` for None, or its fault in one line."""
    from xxdeploy.errors import XXDeployError

    try:
        figures = measure()
    except XXDeployError as refusal:
        return f"{refusal.code}: {refusal.message[:160]}"
    except Exception as fault:  # noqa: BLE001 - a fuzzer reports every fault
        return f"{type(fault).__name__}: {str(fault)[:160]}"
    return "skipped" if figures is None else figures


def main() -> int:
    """Run the models; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--int8", action="store_true", help="quantize the models instead of comparing FP32")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    causes: Counter[str] = Counter()
    for seed in range(asked.first, asked.first + asked.count):
        result = quality(seed) if asked.int8 else outcome(seed)
        causes[result.partition(":")[0].partition(" by ")[0]] += 1
        if result not in ("right", "skipped"):
            print(f"seed {seed}: {result}", flush=True)
    print(", ".join(f"{count} {cause}" for cause, count in causes.most_common()))
    return 0 if set(causes) <= {"right", "skipped", "weak", "sensitive"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
