"""What an export measured, as the values that the report shows; and a report of a bundle that is there already."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.option_fields import Option, Value, words_of
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.precision import Lowered
from xxdeploy.report import Changed, Measured, Timing
from xxdeploy.report.draw import data_uri
from xxdeploy.results import Accuracy, StepRecord

SHEET, CHANGED = 24, 24
"""Pictures of the calibration set, and of images that changed class, at most."""
_SHEET_PIXELS, _CHANGED_PIXELS = 72, 128
_CONFUSED = 12


def measured(
    name: str,
    options: ExportOptions,
    inputs: Inputs,
    lowered: Lowered,
    *,
    timings: Sequence[Timing],
    accuracies: Sequence[Accuracy],
    steps: Sequence[StepRecord],
    sentences: Sequence[str],
) -> Measured:
    """Gather them. ``name`` is the network's on the command line; pictures are read where ``options`` allows them."""
    candidate, pairs = _changes(accuracies)
    return Measured(
        timings=tuple(timings),
        steps=tuple((each.step, each.seconds) for each in steps),
        rungs=lowered.evidence.ladder,
        candidate=candidate,
        changes=len(pairs),
        changed=_shown(options, inputs, pairs),
        confused=_confused(inputs, pairs),
        sheet=_sheet(options, inputs),
        sentences=tuple(sentences),
        processors=lowered.processors,
        command=command_of(name, options),
    )


def command_of(name: str, options: ExportOptions) -> str:
    """Return the command line that asks for ``options``, with the names of files but not their folders."""
    given = {option.name: _without_folder(option, value) for option, value in options.given().items()}
    return shlex.join(["xxdeploy", "export", name, *words_of(given)])


def _without_folder(option: Option, value: Value) -> Value:
    named = isinstance(value, Path) or (option.scope.suffixes and isinstance(value, str))
    return Path(str(value)).name or value if named else value


def _changes(accuracies: Sequence[Accuracy]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the first file that is not float32, and (image, class before, class after) where it differs from Keras."""
    for found in accuracies[2:] or accuracies[1:]:
        pairs = zip(accuracies[0].classes, found.classes, strict=True)
        return found.runner, [(index, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]]
    return "", []


def _class(inputs: Inputs, index: int) -> str:
    return str(index) if inputs.labels is None else inputs.labels.names[index]


def _shown(options: ExportOptions, inputs: Inputs, pairs: Sequence[tuple[int, int, int]]) -> tuple[Changed, ...]:
    images = inputs.evaluation
    if images is None:
        return ()
    mode = "L" if inputs.preprocess.channels == 1 else "RGB"
    return tuple(
        Changed(
            name=images.names[index],
            before=_class(inputs, before),
            after=_class(inputs, after),
            truth="" if images.labels is None else _class(inputs, images.labels[index]),
            picture=data_uri(images.files[index], _CHANGED_PIXELS, mode) if not options.output.no_pictures else "",
        )
        for index, before, after in pairs[:CHANGED]
    )


def _confused(inputs: Inputs, pairs: Sequence[tuple[int, int, int]]) -> tuple[tuple[str, str, int], ...]:
    counts: Mapping[tuple[int, int], int] = Counter((before, after) for _, before, after in pairs)
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_CONFUSED]
    return tuple((_class(inputs, before), _class(inputs, after), count) for (before, after), count in often)


def _sheet(options: ExportOptions, inputs: Inputs) -> tuple[str, ...]:
    if inputs.calibration is None or options.output.no_pictures:
        return ()
    some = inputs.calibration.sample(min(SHEET, len(inputs.calibration)))
    mode = "L" if inputs.preprocess.channels == 1 else "RGB"
    return tuple(filter(None, (data_uri(path, _SHEET_PIXELS, mode) for path in some.files)))
