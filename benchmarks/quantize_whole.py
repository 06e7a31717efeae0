"""Whole INT8 exports, each in a process of its own: the part of ``quantize.py`` behind ``--whole``.

A run begins with the start of Python and ends with the file that a device loads: it imports the libraries, builds or
loads the Keras model, reads and scales the calibration images, converts, quantizes and writes. The peers do that as
their documentation says (``peers_make.py``), xxdeploy by its command with its default options. The runs of a round
follow each other, so a machine that slows down slows all of them down. Each run of xxdeploy starts with an empty cache.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import peers_make as make
from numpy.typing import NDArray
from peers import Subject, Worker, size_of
from peers_worker import MODES

import xxdeploy
from xxdeploy.datasets import has_labels, imagenet_labels, open_images
from xxdeploy.models.catalog import ModelSpec, find
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import rounded

DIRECTIONS = 5
"""Principal components of the features in a head that is solved for."""
FITTED = 160
"""Images that it is fitted to."""
MARGIN = 3.0
"""Standard deviation of its scores."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its ``name``, the ``command`` of this file that runs it, its ``options`` and the modules it ``needs``."""

    name: str
    command: str
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def file(self, folder: Path) -> Path:
        """Return what it writes."""
        stem = self.name.replace(" ", "-").replace("=", "-")
        return folder / (stem + {"xxdeploy": "", "nncf": ".xml", "onnxruntime": ".onnx"}[self.command])

    def subject(self, folder: Path) -> Subject:
        """Return what ``peers_worker.py`` runs to ask for classes."""
        kind = {"nncf": "openvino"}.get(self.command, self.command)
        return Subject(self.name, kind, self.file(folder).name, self.needs)


TOOLS = (
    Tool("xxdeploy", "xxdeploy"),
    Tool("xxdeploy --cpu vnni", "xxdeploy", options=("--cpu", "vnni")),
    Tool("nncf", "nncf", ("nncf", "openvino")),
    Tool("onnxruntime", "onnxruntime", ("onnxruntime",)),
)


@dataclass(slots=True)
class Runs:
    """The runs of one tool: wall-clock and processor seconds, the largest memory in bytes, and the result."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: int = 0
    classes: list[int] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A Keras ``model`` (a name of the catalog with ImageNet weights, or a file) and ``samples`` calibration images."""

    model: str
    spec: ModelSpec
    calibration: Path
    samples: int

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing of the network in the catalog."""
        return Preprocess(self.spec.input_size, self.spec.input_size, self.spec.channels, mode=self.spec.preprocess)

    def pixels(self) -> list[NDArray[np.uint8]]:
        """Return the calibration images that ``xxdeploy export --calibration`` chooses, (h, w, c) uint8."""
        chosen = open_images(self.calibration).sample(self.samples)
        return [rounded(self.preprocess.image(path)) for path in chosen.files]

    def keras(self) -> Any:
        """Return the Keras model."""
        if self.model.endswith(".keras"):
            import keras

            return keras.models.load_model(self.model, compile=False)
        from xxdeploy.convert.catalog.build import build_model

        return build_model(self.spec, weights="imagenet")


def whole(asked: str, calibration: Path, evaluation: Path, *, samples: int, rounds: int, work: Path) -> None:
    """Run all tools on one network and print the table.

    ``asked`` is a name of the catalog, whose ImageNet weights are in Keras' cache, or NAME=none: random weights under a
    head that is fitted to calibration images. ``work`` is a folder for the files.
    """
    name, _, weights = asked.partition("=")
    folder, spec = work / asked.replace("=", "-"), find(name)
    folder.mkdir(parents=True, exist_ok=True)
    task = Task(str(folder / f"{name}.keras") if weights == "none" else name, spec, calibration, samples)
    if weights == "none" and not Path(task.model).exists():
        _child(task, "model", Path(task.model), folder)
    tools = {tool: Runs() for tool in TOOLS}
    for turn in range(rounds):
        for tool, runs in list(tools.items())[turn % len(tools) :] + list(tools.items())[: turn % len(tools)]:
            if not make.has(*tool.needs):
                runs.problem = "not installed"
            if not runs.problem:
                make.note(f"{asked}: {tool.name}, round {turn + 1} of {rounds}")
                _add(runs, task, tool, folder)
    images = _evaluation_images(task, evaluation, folder)
    _child(task, "model", folder / "reference.keras", folder)
    expected = _classes(Subject("Keras", "keras", "reference.keras", ()), folder, images, spec.preprocess)
    for tool, runs in tools.items():
        if not runs.problem:
            runs.classes = _classes(tool.subject(folder), folder, images, spec.preprocess)
    print(table(asked, task, tools, expected, folder), flush=True)


def _add(runs: Runs, task: Task, tool: Tool, folder: Path) -> None:
    """Run a tool once more."""
    try:
        wall, processor, memory = _child(task, tool.command, tool.file(folder), folder, tool.options)
    except RuntimeError as error:
        runs.problem = str(error)
        return
    runs.wall.append(wall)
    runs.processor.append(processor)
    runs.memory = max(runs.memory, memory)


def _child(
    task: Task, command: str, target: Path, folder: Path, options: Sequence[str] = ()
) -> tuple[float, float, int]:
    """Run a command of this file in a process; return wall-clock and processor seconds, and its largest memory."""
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    sent = {
        "command": command, "model": task.model, "network": task.spec.name, "calibration": str(task.calibration),
        "samples": task.samples, "target": str(target), "options": list(options),
    }  # fmt: skip
    home = str(Path(xxdeploy.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    variables = {**os.environ, "PYTHONPATH": path, "XXDEPLOY_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
    log = target.with_suffix(".log")
    with log.open("wb") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(sent)], env=variables, stdout=said, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError((log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1][:160])
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _evaluation_images(task: Task, evaluation: Path, folder: Path) -> Path:
    """Write the images to judge on, (n, h, w, c) uint8, for ``peers_worker.py``."""
    chosen = open_images(evaluation, labels=imagenet_labels(), require_labels=has_labels(evaluation))
    np.save(folder / "images.npy", np.stack([rounded(task.preprocess.image(path)) for path in chosen.files]))
    return folder / "images.npy"


def _classes(subject: Subject, folder: Path, images: Path, mode: str) -> list[int]:
    """Return the class of each image by a file."""
    worker = Worker(subject, folder, images, None, mode)
    try:
        classes: list[int] = worker.ask("classes")
        return classes
    finally:
        worker.close()


def table(asked: str, task: Task, tools: dict[Tool, Runs], expected: Sequence[int], folder: Path) -> str:
    """Return the rows as text. Ratios are those of the medians to NNCF's."""
    by_name = {tool.name: runs for tool, runs in tools.items()}
    base = by_name["nncf"].wall
    lines = [
        f"\n{asked}, the whole export: {task.samples} calibration images, {len(expected)} evaluation images",
        f"{'tool':24}{'seconds':>9}{'of NNCF':>9}{'processor s':>13}{'memory, GB':>12}{'agree, %':>10}{'MB':>7}",
    ]
    for tool, runs in tools.items():
        if runs.problem:
            lines.append(f"{tool.name:24}  {runs.problem}")
            continue
        seconds, agree = statistics.median(runs.wall), 100 * np.mean(np.array(runs.classes) == np.array(expected))
        ratio = f"{seconds / statistics.median(base):8.2f}x" if base else "       -"
        lines.append(
            f"{tool.name:24}{seconds:9.1f}{ratio:>9}{statistics.median(runs.processor):13.1f}"
            f"{runs.memory / 1e9:12.2f}{agree:10.2f}{size_of(tool.file(folder)) / 1e6:7.2f}"
        )
    return "\n".join(lines)


def made_model(task: Task) -> Any:
    """Return the network with random weights that keep their size, and a head that was solved for.

    Random layers tell images apart, and the scores of a random head hardly do. So the head has two classes for each of
    ``DIRECTIONS`` principal components of the features, its two ends, and its scores are of one size: which class wins
    depends on the image, as in a trained network. Nothing is trained.
    """
    import keras

    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.catalog.calibrate_batchnorm import settle_batch_norms, textures
    from xxdeploy.models.catalog import BuildOptions

    side = task.spec.input_size
    scale = MODES[task.spec.preprocess]
    model = build_model(task.spec, weights="none", options=BuildOptions(classes=2 * DIRECTIONS))
    pictures = textures(8, side, side, task.spec.channels)
    settle_batch_norms(model, np.concatenate([scale(picture) for picture in pictures]))
    images = np.concatenate([scale(image) for image in task.pixels()[:FITTED]])
    inside = keras.Model(model.inputs, model.layers[-1].input)
    features = inside.predict(images, batch_size=16, verbose=0)
    center = features.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(features - center, full_matrices=False)
    kernel = MARGIN * directions[:DIRECTIONS].T / sizes[:DIRECTIONS] * len(features) ** 0.5
    kernel = np.concatenate([kernel, -kernel], axis=1)
    model.layers[-1].set_weights([kernel.astype(np.float32), (-center @ kernel).astype(np.float32)])
    return model


def main() -> None:
    """Run one command, which the first argument describes as JSON."""
    asked = json.loads(sys.argv[1])
    target, command = Path(asked["target"]), asked["command"]
    task = Task(asked["model"], find(asked["network"]), Path(asked["calibration"]), asked["samples"])
    if command == "model":
        is_made = target == Path(task.model)
        (made_model(task) if is_made else task.keras()).save(target)
        return
    if command == "xxdeploy":
        from xxdeploy.cli import main as run

        own = ("--preprocess", task.spec.preprocess) if task.model.endswith(".keras") else ()
        given = ("--calibration", str(task.calibration), "--samples", str(task.samples), *own, *asked["options"])
        raise SystemExit(run(["export", task.model, "--int8", *given, "--out", str(target), "--force"]))
    batches = [MODES[task.spec.preprocess](image) for image in task.pixels()]
    converted = target.with_suffix(".float.onnx")
    make.float_onnx(task.keras(), converted)
    {"nncf": make.nncf_int8, "onnxruntime": make.stock_int8}[command](converted, batches, target)


if __name__ == "__main__":
    main()
