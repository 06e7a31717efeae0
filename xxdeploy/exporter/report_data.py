"""What an export measured, as the values that the report shows; and a report of a bundle that is there already."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from xxdeploy.exporter.options import ExportPlan, Inputs
from xxdeploy.exporter.precision import Lowered
from xxdeploy.report import Changed, LadderRung, Measured, Timing
from xxdeploy.report.pictures import data_uri
from xxdeploy.results import Accuracy, StepRecord

SHEET, CHANGED = 24, 24
"""Pictures of the calibration set, and of images that changed class, at most."""
_SHEET_PIXELS, _CHANGED_PIXELS = 72, 128
_CONFUSED = 12


def measured(
    name: str,
    plan: ExportPlan,
    inputs: Inputs,
    lowered: Lowered,
    *,
    timings: Sequence[Timing],
    accuracies: Sequence[Accuracy],
    steps: Sequence[StepRecord],
    sentences: Sequence[str],
) -> Measured:
    """Gather them. ``name`` is the network's on the command line; pictures are read where ``plan`` allows them."""
    candidate, pairs = _changes(accuracies)
    return Measured(
        timings=tuple(timings),
        steps=tuple((each.step, each.seconds) for each in steps),
        rungs=tuple(
            LadderRung(
                row.rung,
                row.taken,
                row.agreement,
                row.drop,
                row.kl_nats,
                row.sqnr_db,
                row.latency_p50_ms / row.float_latency_p50_ms,
                row.seconds,
            )
            for row in lowered.rungs
        ),
        candidate=candidate,
        changes=len(pairs),
        changed=_shown(plan, inputs, pairs),
        confused=_confused(inputs, pairs),
        sheet=_sheet(plan, inputs),
        sentences=tuple(sentences),
        processors=lowered.processors,
        command=command_of(name, plan),
    )


def command_of(name: str, plan: ExportPlan) -> str:
    """Return the command line that asks for ``plan``. Files are named without their folders, which are nobody's."""
    options = plan.options
    engine = plan.engine
    given: dict[str, object] = {
        "int8": plan.precision == "int8",
        "fp16": plan.precision == "fp16",
        "weights": None if plan.weights == "imagenet" else _named(plan.weights),
        "alpha": options.alpha,
        "input-size": options.input_size,
        "classes": options.classes,
        "no-top": not options.include_top,
        "pooling": options.pooling,
        "labels": plan.labels,
        "preprocess": None if plan.preprocess is None else _named(plan.preprocess),
        "resize": plan.resize,
        "output-layer": plan.output_layer,
        "custom-objects": plan.custom_objects,
        "unsafe-lambda": plan.unsafe_lambda,
        "calibration": plan.calibration,
        "samples": plan.samples,
        "method": plan.method,
        "seed": plan.seed,
        "recipe": None if plan.recipe is None else _named(plan.recipe),
        "ranges": plan.ranges,
        "cpu": plan.cpu,
        "target": None if engine is None else engine.target,
        "gpu": ",".join(engine.gpus) if engine is not None and engine.gpus else None,
        "batch": None if engine is None else f"{engine.batch.min},{engine.batch.opt},{engine.batch.max}",
        "eval": plan.evaluation,
        "max-drop": plan.max_drop,
        "min-agreement": plan.min_agreement,
    }
    words = ["xxdeploy", "export", name]
    for option, value in given.items():
        for each in value if isinstance(value, tuple) else (value,):
            if each is True:
                words.append(f"--{option}")
            elif each is not None and each is not False:
                words += [f"--{option}", each.name if isinstance(each, Path) else str(each)]
    return shlex.join(words)


def _named(value: str) -> str:
    """Return a name as it is, and a path without its folder."""
    return Path(value).name or value


def _changes(accuracies: Sequence[Accuracy]) -> tuple[str, list[tuple[int, int, int]]]:
    """Return the first file that is not float32, and (image, class before, class after) where it differs from Keras."""
    for found in accuracies[2:] or accuracies[1:]:
        pairs = zip(accuracies[0].classes, found.classes, strict=True)
        return found.runner, [(index, *pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]]
    return "", []


def _class(inputs: Inputs, index: int) -> str:
    return str(index) if inputs.labels is None else inputs.labels.names[index]


def _shown(plan: ExportPlan, inputs: Inputs, pairs: Sequence[tuple[int, int, int]]) -> tuple[Changed, ...]:
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
            picture=data_uri(images.files[index], _CHANGED_PIXELS, mode) if plan.pictures else "",
        )
        for index, before, after in pairs[:CHANGED]
    )


def _confused(inputs: Inputs, pairs: Sequence[tuple[int, int, int]]) -> tuple[tuple[str, str, int], ...]:
    counts: Mapping[tuple[int, int], int] = Counter((before, after) for _, before, after in pairs)
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_CONFUSED]
    return tuple((_class(inputs, before), _class(inputs, after), count) for (before, after), count in often)


def _sheet(plan: ExportPlan, inputs: Inputs) -> tuple[str, ...]:
    if inputs.calibration is None or not plan.pictures:
        return ()
    some = inputs.calibration.sample(min(SHEET, len(inputs.calibration)))
    mode = "L" if inputs.preprocess.channels == 1 else "RGB"
    return tuple(filter(None, (data_uri(path, _SHEET_PIXELS, mode) for path in some.files)))
