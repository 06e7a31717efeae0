"""Convert every layer, operation and activation of Keras alone: ``python scripts/sweep_keras.py [--only NAME]``.

``tests/support/keras_surface.py`` holds a model for each name of ``keras.layers``, ``keras.ops`` and
``keras.activations``, or the reason why there is none. The script prints a table: ``right``, the error that refuses
the model, or by how much the answers differ. ``REFUSED`` of ``keras_surface`` names the recipes that do not export.

The exit status is 1 if a model differs, fails without a named error, is refused without being in ``REFUSED``, or
exports although it is.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))


def recipes() -> Iterator[tuple[str, Any]]:
    """Yield ``kind.name`` and the recipe of everything."""
    from keras_surface import ACTIVATIONS, LAYERS, OPERATIONS, activation

    for name, recipe in LAYERS.items():
        yield f"layers.{name}", recipe
    for name, recipe in OPERATIONS.items():
        yield f"ops.{name}", recipe
    for name in ACTIVATIONS:
        yield f"activations.{name}", activation(name)


def outcome(recipe: Any) -> str:
    """Return ``right``, ``no model: ...`` (Keras cannot build or run it), or the fault."""
    import numpy as np
    from keras_surface import model_of
    from model_answers import conversion_error
    from random_models import give_weights

    from xxdeploy.errors import XXDeployError

    try:
        model = model_of(recipe)
        give_weights(model, np.random.default_rng(1))
    except Exception as fault:  # noqa: BLE001 - whatever Keras says
        return f"no model: {type(fault).__name__}: {' '.join(str(fault).split())[:120]}"
    with tempfile.TemporaryDirectory(prefix="xxdeploy-sweep-") as folder:
        try:
            error = conversion_error(model, Path(folder), 1)
        except XXDeployError as refusal:
            return f"refused, {refusal.code}: {refusal.message}"
        except Exception as fault:  # noqa: BLE001 - a fuzzer reports every fault
            return f"FAILS: {type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
    if error is None:
        return "no answer of Keras"
    return "right" if error < 1e-4 else f"DIFFERS by {error:.2g} of the largest output"


def surprise(name: str, result: str) -> str | None:
    """Return by what a result breaks the promise of ``REFUSED``, None if it keeps it."""
    from keras_surface import REFUSED

    if name not in REFUSED:
        return None if result == "right" else "is not in REFUSED"
    refused = result.startswith(("refused, ", "no model: ", "no answer of Keras"))
    return None if refused else "is in REFUSED, and is not refused"


def main() -> int:
    """Print the table, and each surprise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a name such as ops.roll; may be repeated")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    counts: Counter[str] = Counter()
    surprises = []
    for name, recipe in recipes():
        if asked.only is None or name in asked.only:
            result = outcome(recipe)
            counts[result.split(":")[0].split(",")[0].split(" by ")[0]] += 1
            print(f"{name:44} {result}", flush=True)
            if (said := surprise(name, result)) is not None:
                surprises.append(f"{name} {said}: {result}")
    print(", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    print("\n".join(surprises))
    return 1 if surprises else 0


if __name__ == "__main__":
    raise SystemExit(main())
