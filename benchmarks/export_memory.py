"""Peak memory of exporting each kind of model file, compared with the bound of 1.0 GB plus four times the weights.

    python benchmarks/export_memory.py                              # each kind with 100 and 300 MB of weights, FP32
    python benchmarks/export_memory.py --mb 300 keras3 h5 --steps   # two kinds, and the peak of each step
    python benchmarks/export_memory.py --networks convnexttiny vgg16

For each kind a process writes a network (five convolutions and two dense layers, half of the weights in each), and
another one exports the file to FP32. The peak is the largest sum of the resident memory of that process and its
children, read every 20 ms, or the largest size of one of them that the kernel knows, whichever is larger. Pages of a
file that is mapped count. --networks exports networks of the catalog with random weights. The exit status is 1 if a
peak exceeds its bound.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SIDE, CLASSES = 64, 10
FORMS = {
    "keras3": ("keras", "model.keras", {}),
    "keras3-h5": ("keras", "model.h5", {}),
    "keras3-json": ("keras", "model.json", {"weights": "model.weights.h5"}),
    "keras3-weights": ("keras", "model.weights.h5", {"architecture": "model.json"}),
    "h5": ("tf_keras", "model.h5", {}),
    "h5-list": ("tf_keras", "list.h5", {}),
    "keras-2.15": ("tf_keras", "model.keras", {}),
    "keras-2.12": ("tf_keras", "old.keras", {}),
    "json": ("tf_keras", "model.json", {"weights": "weights.h5"}),
    "weights": ("tf_keras", "weights.h5", {"architecture": "model.json"}),
}
"""The library that writes each kind, its file, and the options of the export that name another file."""


def network(keras: Any, megabytes: int) -> Any:
    """Return a Sequential with about so many megabytes (10^6) of float32 weights."""
    import numpy as np

    kinds, numbers = keras.layers, megabytes * 1e6 / 4
    width = round((numbers / 2 / 954) ** 0.5)
    model = keras.Sequential(
        [
            # Not an input layer: old files have none.
            kinds.Conv2D(width, 3, strides=2, padding="same", activation="relu", input_shape=(SIDE, SIDE, 3)),
            *(kinds.Conv2D(width * times, 3, strides=2, padding="same", activation="relu") for times in (2, 4, 8, 8)),
            kinds.Flatten(),
            kinds.Dense(round(numbers / 2 / (32 * width)), activation="relu"),
            kinds.Dense(CLASSES, activation="softmax"),
        ]
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        spread = (2 / max(1, int(np.prod(weight.shape[:-1])))) ** 0.5
        weight.assign(random.standard_normal(weight.shape, np.float32) * spread)
    return model


def write(library: str, folder: Path, megabytes: int) -> None:
    """Write every kind of ``library`` into ``folder``."""
    import importlib

    keras = importlib.import_module(library)
    model = network(keras, megabytes)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    (folder / "model.json").write_text(model.to_json())
    model.save_weights(str(folder / ("model.weights.h5" if library == "keras" else "weights.h5")))
    if library == "tf_keras":
        sys.path.insert(0, str(ROOT / "tests" / "support"))
        import keras2_writer

        keras2_writer.renamed_archive(folder / "model.keras", folder / "old.keras", windows=True)
        (folder / "list.h5").write_bytes((folder / "model.h5").read_bytes())
        keras2_writer.edit(folder / "list.h5", "2.2.2", keras2_writer.as_list)


def export_once(source: str, options: dict[str, str]) -> dict[str, float]:
    """Export to FP32 in this process; return the peak of each step in GB."""
    from xxdeploy.exporter import ExportOptions, export
    from xxdeploy.models.catalog import find

    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        asked: Any = Path(source)
        if asked.exists():
            others: dict[str, Any] = {**options}
            if "architecture" in others:
                others["architecture"] = Path(others["architecture"])
            chosen = ExportOptions.of("fp32", preprocess="none", **others)
        else:
            chosen, asked = ExportOptions.of("fp32", weights="none"), find(source)
        with _measured(peaks) as report:
            export(asked, chosen, Path(folder) / "bundle", on_progress=report)
    return peaks


@contextlib.contextmanager
def _measured(peaks: dict[str, float]) -> Iterator[Any]:
    """Note the peak of each step: the kernel counts from zero again when a step begins."""
    current = ["before"]

    def note() -> None:
        text = Path("/proc/self/status").read_text()
        peaks[current[0]] = max(peaks.get(current[0], 0.0), 1.024e-6 * int(text.split("VmHWM:")[1].split()[0]))

    def report(progress: Any) -> None:
        if progress.place is not None and progress.done == 0:
            note()
            current[0] = progress.step
            Path("/proc/self/clear_refs").write_text("5")

    yield report
    note()


def peak_of(command: list[str]) -> tuple[float, dict[str, float]]:
    """Run a command; return its peak with that of its children in GB, and the figures that it printed last."""
    import psutil

    peak = 0
    with tempfile.TemporaryFile() as output:
        process = psutil.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                members = [process, *process.children(recursive=True)]
                peak = max(peak, sum(member.memory_info().rss for member in members))
            time.sleep(0.02)
        output.seek(0)
        lines = output.read().decode().splitlines()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    steps = json.loads(lines[-1])
    return max(peak / 1e9, *steps.values()), steps


def measure(title: str, source: str, options: dict[str, str], weights_gb: float, *, steps: bool) -> bool:
    """Print the row of one export; return whether it keeps the bound."""
    command = [sys.executable, __file__, "--one", source, json.dumps(options)]
    peak, each = peak_of(command)
    bound = 1.0 + 4 * weights_gb
    largest = max(each, key=lambda step: each[step])
    verdict = "holds" if peak <= bound else "EXCEEDED"
    print(f"{title:18} {1000 * weights_gb:8.1f} {peak:8.2f} {bound:8.2f}  {verdict:8}  {largest}", flush=True)
    if steps:
        print("    " + ", ".join(f"{step} {value:.2f}" for step, value in each.items()), flush=True)
    return peak <= bound


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", nargs="*", metavar="KIND", help=", ".join(FORMS))
    parser.add_argument("--mb", type=int, action="append", help="megabytes of weights; may be repeated")
    parser.add_argument("--networks", nargs="+", default=[], help="networks of the catalog, instead of files")
    parser.add_argument("--steps", action="store_true", help="print the peak of each step, too")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if asked.one:
        print(json.dumps(export_once(asked.one[0], json.loads(asked.one[1]))))
        return 0
    if asked.write:
        write(asked.write[0], Path(asked.write[1]), int(asked.write[2]))
        return 0
    if unknown := set(asked.forms) - FORMS.keys():
        parser.error(f"unknown kinds: {', '.join(sorted(unknown))}; known: {', '.join(FORMS)}")
    print(f"{'model':18} {'MB':>8} {'peak GB':>8} {'bound GB':>8}  {'':8}  largest in step")
    kept = [measure(name, name, {}, _weights_of(name), steps=asked.steps) for name in asked.networks]
    for megabytes in () if asked.networks else asked.mb or (100, 300):
        with tempfile.TemporaryDirectory(prefix="xxdeploy-memory-") as folder:
            kept += _all_forms(asked.forms or list(FORMS), Path(folder), megabytes, steps=asked.steps)
    return 0 if all(kept) else 1


def _all_forms(names: list[str], folder: Path, megabytes: int, *, steps: bool) -> list[bool]:
    kept, written = [], set()
    for name in names:
        library, file, others = FORMS[name]
        place = folder / library
        if library not in written:
            place.mkdir()
            subprocess.run([sys.executable, __file__, "--write", library, str(place), str(megabytes)], check=True)
            written.add(library)
        options = {option: str(place / other) for option, other in others.items()}
        largest = max((place / file).stat().st_size, *(Path(value).stat().st_size for value in options.values()), 0)
        kept.append(measure(f"{name}", str(place / file), options, largest / 1e9, steps=steps))
    return kept


def _weights_of(name: str) -> float:
    from xxdeploy.models.catalog import find

    return 4e-9 * find(name).parameters


if __name__ == "__main__":
    raise SystemExit(main())
