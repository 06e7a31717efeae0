"""Show that the limit of FP32 parity finds wrong conversions: ``python scripts/mutate_conversions.py``.

Makes the mistakes of ``tests/support/wrong_conversions.py`` in each network and judges each with the absolute limits
(1e-5 of a probability, 1e-4 of the largest feature) and with the limit of an export, which follows the network's own
rounding errors. Prints a table. The exit status is 1 if the right conversion fails by the second limit, or if a mistake
that the absolute limit finds passes it.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

IMAGES = 8


def networks(shared: Path) -> dict[str, tuple[Callable[[], Any], int | None]]:
    """Return those of the tests, and MobileNetV2 with its weights where the shared folder has them."""
    from wrong_conversions import NETWORKS

    from xxdeploy.convert.keras_loader import load_keras

    home = shared / "data" / "keras-home"
    if not home.is_dir():
        return NETWORKS
    return {**NETWORKS, "MobileNetV2": (lambda: load_keras().applications.MobileNetV2(), 1000)}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", action="append", help="a network; may be repeated")
    asked = parser.parse_args()
    if (asked.shared / "data" / "keras-home").is_dir():
        os.environ["KERAS_HOME"] = str(asked.shared / "data" / "keras-home")
    warnings.simplefilter("ignore")
    from wrong_conversions import Judge, mutants

    failures = 0
    print(f"{'network':18} {'rounding':>9} {'right':>9} {'old':>5} {'new':>5} {'mistakes':>8} {'old':>5} {'new':>5}")
    for name, (build, classes) in networks(asked.shared).items():
        if asked.only and name not in asked.only:
            continue
        model = build()
        judge = Judge(model, classes, IMAGES)
        verdicts = {
            mistake: judge.judge(wrong) for mistake, wrong in mutants(model, judge.right) if judge.is_wrong(wrong)
        }
        found = [sum(verdict[index] for verdict in verdicts.values()) for index in (0, 1)]
        right = judge.judge(judge.right)
        said = ["fails" if failed else "holds" for failed in right]
        print(
            f"{name:18} {judge.rounding().largest:9.1e} {judge.difference(judge.right):9.1e} {said[0]:>5} {said[1]:>5} "
            f"{len(verdicts):8} {found[0]:5} {found[1]:5}",
            flush=True,
        )
        escaped = [mistake for mistake, (old, new) in verdicts.items() if old and not new]
        for mistake in escaped:
            print(f"  escapes: {mistake}")
        failures += len(escaped) + right[1]
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
