"""Convert random Keras models and compare the answers: ``python scripts/fuzz_models.py [--count 500] [--first 0]``.

Prints the seed of each model that fails or differs, and a count by cause. ``tests/support/random_models.py`` makes the
models; ``random_model(SEED)`` makes one again. 500 models take about 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

TOLERANCE = 1e-3
"""Relative to the largest output."""


def outcome(seed: int) -> str:
    """Return ``right``, ``skipped`` (Keras cannot run it), or what is wrong."""
    from random_models import conversion_error, random_model

    from xxdeploy.errors import XXDeployError

    model = random_model(seed)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-fuzz-") as folder:
        try:
            error = conversion_error(model, Path(folder), seed)
        except XXDeployError as refusal:
            return f"{refusal.code}: {refusal.message[:160]}"
        except Exception as fault:  # noqa: BLE001 - a fuzzer reports every fault
            return f"{type(fault).__name__}: {str(fault)[:160]}"
    if error is None:
        return "skipped"
    return "right" if error < TOLERANCE else f"differs by {error:.2g} of the largest output"


def main() -> int:
    """Run the models; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    causes: Counter[str] = Counter()
    for seed in range(asked.first, asked.first + asked.count):
        result = outcome(seed)
        causes[result.partition(":")[0].partition(" by ")[0]] += 1
        if result not in ("right", "skipped"):
            print(f"seed {seed}: {result}", flush=True)
    print(", ".join(f"{count} {cause}" for cause, count in causes.most_common()))
    return 0 if set(causes) <= {"right", "skipped"} else 1


if __name__ == "__main__":
    raise SystemExit(main())
