"""The values that an export hands to its report."""

from __future__ import annotations

import platform
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.option_fields import Option, Value, words_of
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.result import Conclusions, Lowered
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.report import Changed, ClassCount, Measured, Pair, Timing
from xxdeploy.report.draw import data_uri, sample_uri
from xxdeploy.results import Accuracy, Runner, StepRecord
from xxdeploy.runtime.answers import picture_from
from xxdeploy.runtime.tune_store import device_facts

SHEET, CHANGED, PAIRS = 24, 24, 6
"""The largest numbers of pictures: of the calibration set, of images that changed class, and of pairs of outputs."""
_SHEET_PIXELS, _CHANGED_PIXELS, _PAIR_PIXELS = 72, 128, 160
_GAIN = 8
"""Differences of pictures are enlarged so many times: one step of a byte cannot be seen."""
_CONFUSED, _CLASSES = 12, 20


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for an export: the words that ask for it again (None: the command line), and notes for the user."""

    command: str | None = None
    notes: tuple[str, ...] = ()


CLI = Caller()


def measured(
    command: str,
    options: ExportOptions,
    inputs: Inputs,
    lowered: Lowered,
    *,
    timings: Sequence[Timing],
    accuracies: Sequence[Accuracy],
    steps: Sequence[StepRecord],
    concluded: Conclusions,
) -> Measured:
    """Return the report's values. ``command`` makes the bundle again; only --pictures shows pictures."""
    # The numbers of texts are no classes that the report could name.
    candidate, pairs = ("", []) if inputs.task == "sequence" else _changes(accuracies)
    labels = None if inputs.evaluation is None else inputs.evaluation.labels
    return Measured(
        timings=tuple(timings),
        steps=tuple((step.step, step.seconds) for step in steps),
        rungs=lowered.evidence.ladder,
        candidate=candidate,
        changes=len(pairs),
        changed=_shown(options, inputs, pairs),
        classes=() if labels is None or not candidate else _classes(inputs, labels, *_compared(accuracies)),
        confused=_confused(inputs, pairs),
        sheet=_sheet(options, inputs),
        warnings=concluded.warnings,
        sentences=concluded.sentences,
        promises=concluded.promises,
        processors=lowered.processors,
        command=command,
        made=_made(),
    )


def pairs_of(
    options: ExportOptions, inputs: Inputs, keras: Runner, models: Mapping[str, OnnxModel]
) -> tuple[str, tuple[Pair, ...]]:
    """Return the first lowered file of ``models``, and what it and Keras make of a few pictures.

    They are evaluation images, else those that judged the rungs; none without --pictures, or for other tasks than
    ``image``.
    """
    name = list(models)[min(1, len(models) - 1)]
    images, output_range = inputs.evaluation or inputs.selection, inputs.output.output_range
    if images is None or inputs.task != "image" or not options.output.pictures:
        return "", ()
    some = images.sample(min(PAIRS, len(images)))
    session = open_session(models[name], name=name, exact=True)
    pairs = []
    for file, short, batch in zip(some.pictures(), some.names, some.batches(inputs.preprocess, 1), strict=True):
        before, after = (picture_from(runner.run(batch)[0], output_range) for runner in (keras, session))
        outputs = (before, after, _difference(before, after))
        left, right, difference = (data_uri(picture.convert("RGB"), _PAIR_PIXELS) for picture in outputs)
        gain = 1 if output_range is None else _GAIN
        pairs.append(
            Pair(_short_name(short), sample_uri(inputs.preprocess, file, _PAIR_PIXELS), left, right, difference, gain)
        )
    return name, tuple(pairs)


def _difference(before: Image.Image, after: Image.Image) -> Image.Image:
    """Return the enlarged difference of two pictures; of two masks, the pixels whose classes differ in white."""
    if before.mode == "P":
        return Image.fromarray(np.where(np.asarray(before) == np.asarray(after), 0, 255).astype(np.uint8))
    return ImageChops.difference(before, after).point(lambda value: min(255, _GAIN * value))


def command_of(name: str, options: ExportOptions) -> str:
    """Return the command line that asks for ``options``, with the names of files but not their folders."""
    given = {option.name: _without_folder(option, value) for option, value in options.given().items()}
    return shlex.join(["xxdeploy", "export", name, *words_of(given)])


def _without_folder(option: Option, value: Value) -> Value:
    named = isinstance(value, Path) or (option.scope.suffixes and isinstance(value, str))
    return Path(str(value)).name or value if named else value


def _changes(accuracies: Sequence[Accuracy]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the first lowered file, and (index, class by Keras, class by the file) of each image that differs."""
    if len(accuracies) < 2:
        return "", []
    keras, candidate = _compared(accuracies)
    pairs = zip(keras.classes, candidate.classes, strict=True)
    return candidate.runner, [(index, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]]


def _compared(accuracies: Sequence[Accuracy]) -> tuple[Accuracy, Accuracy]:
    """Return that of Keras and that of the first lowered file, or of the float32 graph if there is no other."""
    return accuracies[0], accuracies[min(2, len(accuracies) - 1)]


def _classes(inputs: Inputs, labels: Sequence[int], keras: Accuracy, candidate: Accuracy) -> tuple[ClassCount, ...]:
    """Return the classes whose number of right images changed most, then the worst ones."""
    images = Counter(labels)
    before, after = (
        Counter(label for label, seen in zip(labels, runner.classes, strict=True) if label == seen)
        for runner in (keras, candidate)
    )
    order = sorted(images, key=lambda label: (-abs(after[label] - before[label]), after[label] / images[label], label))
    return tuple(
        ClassCount(_class(inputs, label), images[label], before[label], after[label]) for label in order[:_CLASSES]
    )


def _made() -> tuple[tuple[str, str], ...]:
    """Return when and where the export ran: the date, the processor, and the revision of the folder, if it has one."""
    device = device_facts()
    revision = _output_of(["git", "describe", "--always", "--dirty", "--abbrev=12"])
    facts = {
        "made": time.strftime("%Y-%m-%d %H:%M %Z"),
        "processor": f"{device['processor']}, {device['cores']} cores",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "git revision of the folder": revision,
    }
    return tuple((name, value) for name, value in facts.items() if value)


def _class(inputs: Inputs, index: int) -> str:
    return str(index) if inputs.labels is None else inputs.labels.names[index]


def _shown(options: ExportOptions, inputs: Inputs, pairs: Sequence[tuple[int, int, int]]) -> tuple[Changed, ...]:
    images = inputs.evaluation
    if images is None:
        return ()
    return tuple(
        Changed(
            name=_short_name(images.names[index]),
            before=_class(inputs, before),
            after=_class(inputs, after),
            truth="" if images.labels is None else _class(inputs, images.labels[index]),
            picture=sample_uri(inputs.preprocess, images.picture(index), _CHANGED_PIXELS)
            if options.output.pictures
            else "",
        )
        for index, before, after in pairs[:CHANGED]
    )


def _confused(inputs: Inputs, pairs: Sequence[tuple[int, int, int]]) -> tuple[tuple[str, str, int], ...]:
    counts: Mapping[tuple[int, int], int] = Counter((before, after) for _, before, after in pairs)
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_CONFUSED]
    return tuple((_class(inputs, before), _class(inputs, after), count) for (before, after), count in often)


def _sheet(options: ExportOptions, inputs: Inputs) -> tuple[str, ...]:
    if inputs.calibration is None or not options.output.pictures:
        return ()
    some = inputs.calibration.sample(min(SHEET, len(inputs.calibration)))
    form = inputs.preprocess
    return tuple(filter(None, (sample_uri(form, sample, _SHEET_PIXELS) for sample in some.pictures())))


def _output_of(command: Sequence[str]) -> str:
    """Return the first line that a program prints; "" if it is absent, fails or takes longer than two seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if done.returncode else done.stdout.strip().partition("\n")[0]


def _short_name(name: str) -> str:
    """Return the name of an image without its folders, at most 32 characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return last if len(last) <= 32 else f"{last[:20]}…{last[-11:]}"
