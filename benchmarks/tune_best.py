"""Check that `xxdeploy tune` finds the fastest setting: compare its choice with every other, interleaved, on all cores.

    python benchmarks/tune_best.py BUNDLE... [--budget 30] [--rounds 40]

After tuning, the script opens each setting again. In every round each setting predicts twice, in a rotating order, and
the second time counts. The output has the medians, and the choice's time divided by that of the best setting.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from xxdeploy.cores import cores
from xxdeploy.cpu import cpu_features
from xxdeploy.errors import XXDeployError
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.engines.select import installed_engines, open_session
from xxdeploy.runtime.engines.session import batch_for
from xxdeploy.runtime.selftest import read_golden, run_selftest
from xxdeploy.runtime.tune import candidates_for, tune
from xxdeploy.runtime.tune_store import runnable_variants


def settings_of(bundle: Path) -> dict[str, tuple[Any, Any]]:
    """Open every candidate whose golden pairs hold; return session and input by its name."""
    root, manifest = open_bundle(bundle)
    entries = {entry.path: entry for entry in manifest.files}
    variants = runnable_variants(manifest, cpu_features())
    pictures, _ = read_golden(root, manifest, variants[0])
    found: dict[str, tuple[Any, Any]] = {}
    for each in candidates_for(variants, installed_engines(), cores()):
        try:
            model = read_entry(root, entries[each.variant.model])
            session = open_session(model, manifest, each.variant, each.settings)
            run_selftest(session, root, manifest, each.variant)
        except XXDeployError as error:
            print(f"{each}: {error.message}")
            continue
        found[str(each)] = session, batch_for(session, manifest.preprocess, pictures[:1])
    return found


def race(settings: dict[str, tuple[Any, Any]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in settings}
    order = list(settings)
    for number in range(rounds):
        turn = number % len(order)
        for name in (*order[turn:], *order[:turn]):
            session, batch = settings[name]
            session.run(batch)
            begin = time.perf_counter()
            session.run(batch)
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Tune, open, race, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--budget", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    for bundle in given.bundles:
        chosen = str(tune(bundle, budget=given.budget).best.candidate)
        medians = race(settings_of(bundle), given.rounds)
        best = min(medians, key=medians.__getitem__)
        for name, value in sorted(medians.items(), key=lambda item: item[1]):
            print(f"{bundle.name:28} {value:8.2f} ms  {'chosen ' if name == chosen else '       '} {name}")
        print(
            f"{bundle.name}: the choice takes {medians[chosen] / medians[best]:.3f}x of the best setting\n", flush=True
        )


if __name__ == "__main__":
    main()
