"""Compare xxdeploy with its peers: one run, the same weights and images, each subject in a separate process.

Latency is from one decoded uint8 image to its top-5, batch 1: medians of interleaved rounds, with one thread and with
all. Cold start is from the start of a process to the first result (including Python, imports and loading), memory the
peak of that process, agreement the share of images with the class that Keras predicts.

    python benchmarks/peers.py --calibration IMAGES --eval IMAGES [--networks mobilenetv2 ...] [--out DIR]

The table lists peers that are not installed (pip install 'xxdeploy[peers]' installs them). The files of an earlier run
are used again; delete --work to make new ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers_make as make
from numpy.typing import NDArray
from peers_worker import MODES

import xxdeploy
from xxdeploy.datasets import open_images
from xxdeploy.runtime import load
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import rounded
from xxdeploy.runtime.tune_store import device_facts

WORKER = Path(__file__).with_name("peers_worker.py")


@dataclass(frozen=True)
class Subject:
    """A tool with a file: ``kind`` and ``options`` are those of the worker, ``needs`` the modules of the tool."""

    name: str
    kind: str
    file: str
    needs: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)


SUBJECTS = (
    Subject("Keras", "keras", "model.keras", ("tensorflow",)),
    Subject("ONNX Runtime float", "onnxruntime", "float.onnx", ("onnxruntime", "tf2onnx")),
    Subject("ONNX Runtime INT8, stock", "onnxruntime", "stock-int8.onnx", ("onnxruntime", "tf2onnx")),
    Subject("OpenVINO float", "openvino", "float.onnx", ("openvino",)),
    Subject("OpenVINO bf16", "openvino", "float.onnx", ("openvino",), {"hint": "bf16"}),
    Subject("OpenVINO INT8, NNCF", "openvino", "nncf-int8.xml", ("openvino", "nncf")),
    Subject("LiteRT float", "litert", "float.tflite", ("ai_edge_litert", "tensorflow")),
    Subject("LiteRT INT8", "litert", "int8.tflite", ("ai_edge_litert", "tensorflow")),
    Subject("xxdeploy, onnxruntime", "xxdeploy", "bundle", ("onnxruntime",), {"engine": "onnxruntime"}),
    Subject("xxdeploy, OpenVINO", "xxdeploy", "bundle", ("openvino",), {"engine": "openvino"}),
    Subject("xxdeploy, tuned", "xxdeploy", "bundle", ("onnxruntime",), {"tuned": True}),
)


@dataclass
class Row:
    """The measurements of one subject; None where there is none, and ``problem`` says why.

    ``least`` is the fastest round: on a shared machine, other processes affect the median.
    """

    network: str
    subject: str
    one_thread_ms: float | None = None
    all_threads_ms: float | None = None
    one_thread_least_ms: float | None = None
    all_threads_least_ms: float | None = None
    cold_start_ms: float | None = None
    memory_mb: float | None = None
    file_mb: float | None = None
    agreement: float | None = None
    problem: str | None = None
    one_thread_times_ms: list[float] = field(default_factory=list)


class Worker:
    """A process with one subject."""

    def __init__(self, subject: Subject, folder: Path, images: Path, threads: int | None, mode: str) -> None:
        asked = {
            "kind": subject.kind, "file": str(folder / subject.file), "threads": threads, "options": subject.options,
            "images": str(images), "mode": mode,
        }  # fmt: skip
        home = str(Path(xxdeploy.__file__).parent.parent)
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(asked)],
            env={**os.environ, "PYTHONPATH": path, "XXDEPLOY_CACHE": str(folder / "cache")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.memory = int(self._answer()["memory"])
        except RuntimeError:
            self.close()
            raise
        self.seconds = time.perf_counter() - begin

    def ask(self, command: object) -> Any:
        """Send a command, return the reply. ``RuntimeError`` with the last line that the process printed."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip().splitlines() or ["it ended without a word"]
            raise RuntimeError(said[-1][:200])
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def prepare(network: str, weights: str, folder: Path, given: argparse.Namespace) -> tuple[Preprocess, dict[str, str]]:
    """Make the missing files; return the preprocessing, and the reason for each file that could not be made."""
    folder.mkdir(parents=True, exist_ok=True)
    problems: dict[str, str] = {}
    if not (folder / "bundle").is_dir():
        make.note(f"{network}: bundle")
        make.bundle(network, weights, given.calibration, given.samples, folder / "bundle")
    preprocess = load(folder / "bundle", tuning="off").manifest.picture
    if preprocess.mode not in MODES:
        raise SystemExit(f"{network}: the peers support the scalings {', '.join(MODES)}, not {preprocess.mode}")
    chosen = open_images(given.calibration).sample(given.samples)
    pictures = [MODES[preprocess.mode](rounded(preprocess.image(each))) for each in chosen.files]
    kept: list[Any] = []

    def model() -> Any:
        from xxdeploy.convert.catalog.build import build_model
        from xxdeploy.models.catalog import find

        if not kept:
            kept.append(build_model(find(network), weights=weights))
        return kept[0]

    steps: list[tuple[str, tuple[str, ...], Callable[[Path], object]]] = [
        ("model.keras", ("tensorflow",), lambda target: model().save(target)),
        ("float.onnx", ("tensorflow", "tf2onnx"), lambda target: make.float_onnx(model(), target)),
        ("stock-int8.onnx", ("onnxruntime",), partial(make.stock_int8, folder / "float.onnx", pictures)),
        ("nncf-int8.xml", ("nncf", "openvino"), partial(make.nncf_int8, folder / "float.onnx", pictures)),
        ("float.tflite", ("tensorflow",), lambda target: make.litert(model(), None, target)),
        ("int8.tflite", ("tensorflow",), lambda target: make.litert(model(), pictures, target)),
    ]
    for name, needs, step in steps:
        if (folder / name).exists():
            continue
        if not make.has(*needs):
            problems[name] = "not installed"
            continue
        make.note(f"{network}: {name}")
        try:
            step(folder / name)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises stands in its row
            problems[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"
    return preprocess, problems


def measure(
    network: str,
    folder: Path,
    images: NDArray[np.uint8],
    mode: str,
    problems: dict[str, str],
    given: argparse.Namespace,
) -> list[Row]:
    """Measure all subjects on one network, whose images are scaled as ``mode``."""
    stored = folder / "images.npy"
    np.save(stored, images)
    rows = {each.name: Row(network, each.name) for each in SUBJECTS}
    for each in SUBJECTS:
        if not make.has(*each.needs):
            rows[each.name].problem = "not installed"
        elif each.file in problems:
            rows[each.name].problem = problems[each.file]
        else:
            rows[each.name].file_mb = size_of(folder / each.file) / 1e6
    for threads in (1, None):
        workers: dict[str, Worker] = {}
        for each in SUBJECTS:
            row = rows[each.name]
            if row.problem is not None:
                continue
            make.note(f"{network}: {each.name}, {'one thread' if threads else 'all threads'}")
            try:
                workers[each.name] = Worker(each, folder, stored, threads, mode)
                if threads is None:
                    starts = [Worker(each, folder, stored, threads, mode) for _ in range(given.starts)]
                    for start in starts:
                        start.close()
                    row.cold_start_ms = 1e3 * statistics.median(start.seconds for start in starts)
                    row.memory_mb = statistics.median(start.memory for start in starts) / 1e6
            except RuntimeError as error:
                row.problem = str(error)
        for name, values in take_turns(workers, given.rounds).items():
            which = "one_thread" if threads else "all_threads"
            setattr(rows[name], f"{which}_ms", 1e3 * statistics.median(values))
            setattr(rows[name], f"{which}_least_ms", 1e3 * min(values))
            if threads:
                rows[name].one_thread_times_ms = [round(1e3 * value, 3) for value in values]
        if threads is None:
            classes = {name: worker.ask("classes") for name, worker in workers.items()}
            for name, found in classes.items():
                if "Keras" in classes:
                    rows[name].agreement = float(np.mean(np.array(found) == np.array(classes["Keras"])))
        for worker in workers.values():
            worker.close()
    return list(rows.values())


def take_turns(workers: dict[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each subject, interleaved: of two results in a row, the first warms the caches."""
    times: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.ask(5)
    order = list(workers)
    for number in range(rounds):
        turn = number % max(1, len(order))
        for name in (*order[turn:], *order[:turn]):
            times[name].append(workers[name].ask(3)[-1])
    return times


def size_of(path: Path) -> int:
    """Return the bytes to be copied to the device; for a bundle, of the model that is picked here."""
    if path.is_dir():
        runtime = load(path, tuning="off")
        return (runtime.root / runtime.variant.model).stat().st_size
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" else 0)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table; the fastest round is in parentheses after the median."""
    lines = [
        "| network | subject | 1 thread, ms | all threads, ms | start, ms | memory, MB | file, MB | agreement, % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row.problem is not None:
            lines.append(f"| {row.network} | {row.subject} | {row.problem} | | | | | |")
            continue
        times = (
            f"{_digits(row.one_thread_ms, 2)} ({_digits(row.one_thread_least_ms, 2)})",
            f"{_digits(row.all_threads_ms, 2)} ({_digits(row.all_threads_least_ms, 2)})",
        )
        share = None if row.agreement is None else 100 * row.agreement
        others = ((row.cold_start_ms, 0), (row.memory_mb, 0), (row.file_mb, 1), (share, 1))
        shown = " | ".join((*times, *(_digits(value, digits) for value, digits in others)))
        lines.append(f"| {row.network} | {row.subject} | {shown} |")
    return "\n".join(lines)


def _digits(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plot(rows: Sequence[Row], target: Path) -> None:
    """Draw latency with one thread, one panel for each network."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    networks = list(dict.fromkeys(row.network for row in rows))
    figure, axes = pyplot.subplots(1, len(networks), figsize=(5.5 * len(networks), 4), squeeze=False)
    for axis, network in zip(axes[0], networks, strict=True):
        shown = [row for row in rows if row.network == network and row.one_thread_ms is not None][::-1]
        colors = ["#1f77b4" if row.subject.startswith("xxdeploy") else "#bbbbbb" for row in shown]
        bars = axis.barh([row.subject for row in shown], [row.one_thread_ms or 0.0 for row in shown], color=colors)
        axis.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axis.set(title=network, xlabel="ms from uint8 image to top-5, one thread")
        axis.margins(x=0.12)
    figure.tight_layout()
    figure.savefig(target)


def main() -> None:
    """Parse, make the files, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["mobilenet", "mobilenetv2"], help="NAME or NAME=none|FILE")
    parser.add_argument("--starts", type=int, default=3, help="fresh processes for the cold start of each")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--eval", type=Path, required=True, dest="evaluation")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--images", type=int, default=200, help="images for the agreement")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--work", type=Path, default=Path("exports/peers"))
    parser.add_argument("--out", type=Path, help="folder for peers.json, peers.md and peers.svg")
    given = parser.parse_args()
    rows: list[Row] = []
    for asked in given.networks:
        network, _, weights = asked.partition("=")
        folder = given.work / network
        preprocess, problems = prepare(network, weights or "imagenet", folder, given)
        chosen = open_images(given.evaluation).sample(given.images)
        images = np.stack([rounded(preprocess.image(each)) for each in chosen.files])
        measured = measure(network, folder, images, preprocess.mode, problems, given)
        if weights == "none":  # an export calibrates the batch norms of random weights: its classes differ from Keras'
            for row in measured:
                row.agreement = None
        rows += measured
        print(table([row for row in rows if row.network == network]), flush=True)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        facts = {"device": device_facts(), "python": platform.python_version(), "rounds": given.rounds}
        document = {**facts, "rows": [asdict(row) for row in rows]}
        (given.out / "peers.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (given.out / "peers.md").write_text(table(rows) + "\n", encoding="utf-8")
        if make.has("matplotlib"):
            plot(rows, given.out / "peers.svg")


if __name__ == "__main__":
    main()
