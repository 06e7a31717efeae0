"""Convert random Keras models and compare the answers: ``python scripts/fuzz_models.py [--count 500] [--int8]``.

Prints the seed of each model that fails or differs, and a count by cause. ``tests/support/random_models.py`` makes the
models; ``random_model(SEED)`` makes one again. With ``--int8`` the models are quantized, too, and those below 20 dB are
printed: a faithful copy of a small network has 25 to 45 dB. 500 models take about 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

TOLERANCE = 1e-3
"""Relative to the largest output."""
WEAK_DB = 20.0


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
    """Return ``right`` or ``skipped``, ``weak: ...`` for an INT8 copy below ``WEAK_DB``, or the fault."""
    from model_answers import int8_decibels
    from random_models import random_model

    ratio = _attempt(lambda: int8_decibels(random_model(seed), seed))
    if isinstance(ratio, str):
        return ratio
    return "right" if ratio >= WEAK_DB else f"weak: {ratio:.1f} dB"


def _attempt(measure: Callable[[], float | None]) -> float | str:
    """Return the figure that ``measure`` finds, ``skipped`` if it finds none, or its fault in one line."""
    from xxdeploy.errors import XXDeployError

    try:
        figure = measure()
    except XXDeployError as refusal:
        return f"{refusal.code}: {refusal.message[:160]}"
    except Exception as fault:  # noqa: BLE001 - a fuzzer reports every fault
        return f"{type(fault).__name__}: {str(fault)[:160]}"
    return "skipped" if figure is None else figure


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
    return 0 if set(causes) <= {"right", "skipped", "weak"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
