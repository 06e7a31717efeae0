"""INT8: climb the ladder, make a file for each kind of processor, and measure the noise of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets import ImageSet
from xxdeploy.datasets.images import CALIBRATION_BATCH, EVALUATION_BATCH, batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.exporter.cpu_variants import CpuFiles, Judges, Sample, Tuning, int8_variants
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.ladder import FREE_AGREEMENT, Bench, Clock, Goal, Judge, Trial, climb
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.quantizer import Quantizer, nodes_of
from xxdeploy.exporter.result import Lowered
from xxdeploy.exporter.source import Source
from xxdeploy.exporter.stages import measure_latency
from xxdeploy.models.samples import shipped_folder
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.optional import extra
from xxdeploy.results import DomainRecord, Evidence, LayerNoise, ModelFile, OnProgress, Progress
from xxdeploy.runtime.inputs import area_of
from xxdeploy.verify import Comparison, compare_with, record_reference
from xxdeploy.verify.comparison import Reference

with extra("export"):
    from xxdeploy.lowering.x86_file import to_x86_file
    from xxdeploy.quantize import Batches
    from xxdeploy.quantize.measure.domain import IMAGES, compare_domains
    from xxdeploy.quantize.measure.sensitivity import layer_noise
    from xxdeploy.quantize.methods.method import Stage
    from xxdeploy.quantize.methods.registry import without_methods
    from xxdeploy.quantize.recipe import QuantizationRecipe, load_quantization_recipe

SENSITIVITY_IMAGES = 8
_CLIPPING_IMAGES = 16
"""Enough to see which layers clip, where two sets of images cannot be compared."""
_PREVIEW_IMAGES = 48
"""Enough to tell a good calibrator from a bad one; the best are judged on all selection images."""
_EMULATED_IMAGES = 8, 24, 96
"""Emulating 16-bit sums takes several times as long as running the model: more images are for models on which fewer do
not show a clear loss."""
_UNTRAINED_IMAGES = 16
"""Random weights keep no class: a few images show that the network runs."""
_EMULATED_BATCH = 1
"""Emulation also takes several times the memory for each image in a batch."""


def make_int8(source: Source, options: ExportOptions, fp32: OnnxModel, report: OnProgress) -> Lowered:
    """Quantize ``fp32`` as ``options`` ask. Errors as :func:`starting_recipe` and ``Quantizer``.

    Random weights cannot judge a rung, so their first rung, or the pinned recipe, is taken without a judgement.
    """
    inputs, engine = source.inputs, options.gpu.engine is not None
    quantizer = Quantizer(fp32, inputs, report, tensorrt=engine, given=options.precision.ranges)
    start, name, pinned = starting_recipe(source, options, fp32)
    images = inputs.selection or inputs.calibration
    assert images is not None  # gather() has seen to it
    if not source.trained:
        images = images.sample(min(_UNTRAINED_IMAGES, len(images)))
    threshold, effort = options.proof.threshold, options.precision.effort
    floats = _Floats(fp32, inputs, images, report)
    judge = floats.judge(images, threshold=threshold)
    preview = floats.judge(images.sample(min(_PREVIEW_IMAGES, len(images))))
    bench = Bench(judge, preview, _clock(fp32, images, inputs))
    pinned = pinned or not source.trained
    goal = _goal(options, source, name, images)
    climbed = climb(quantizer, bench, goal, start=start, name=name, pinned=pinned, effort=effort, report=report)
    best = climbed.best
    if engine:
        made = CpuFiles((ModelFile("int8", best.model, best.recipe.asked().name, (), best.model),), (), ())
    elif options.gpu.only_litert:  # its kernels add in 32 bits, on every processor
        shipped = to_x86_file(best.model, quantizer.grid, any_order=True)
        made = CpuFiles((ModelFile("int8", shipped, best.recipe.asked().name, (), best.model),), (), ())
    else:
        fewer = dict.fromkeys(min(count, len(images)) for count in _EMULATED_IMAGES)
        few = tuple(floats.sample(images.sample(count)) for count in fewer)
        judges = Judges(judge, few, area_of(inputs.preprocess)) if source.trained else None
        cpu = options.precision.cpu
        tuning = Tuning(effort, goal)
        made = int8_variants(quantizer, best.recipe, best.model, cpu=cpu, judges=judges, tuning=tuning, report=report)
    selection = best.comparison, *(() if made.narrow is None else (made.narrow,))
    domain = _domain(quantizer, best, inputs, report) if source.trained else None
    evidence = Evidence(
        recipe=best.recipe.to_json(),
        ladder=climbed.rungs,
        selection=tuple(comparison.record for comparison in selection),
        processors=made.verdicts,
        domain=domain,
    )
    return Lowered(
        made.files,
        ranges=quantizer.ranges(best.recipe),
        evidence=evidence,
        selection=selection,
        noise=_noise(quantizer, best, report),
        sentences=climbed.sentences,
        processors=made.sentences,
    )


class _Floats:
    """The outputs of the float model on the selection images: it runs once, when they are needed first."""

    def __init__(self, fp32: OnnxModel, inputs: Inputs, images: ImageSet, report: OnProgress) -> None:
        self._fp32, self._inputs, self._images, self._report = fp32, inputs, images, report
        self._kept: Reference | None = None

    def judge(self, images: ImageSet, most: int = EVALUATION_BATCH, threshold: float | None = None) -> Judge:
        """Return a function that compares an INT8 model with the float model on some of the images.

        They run in batches of ``most`` at most, and each model once.
        """
        known = dict[str, Comparison]()
        batch = batch_that_fits(most, area_of(self._inputs.preprocess))

        @cache
        def reference() -> Reference:
            kept = self._reference()
            if images is self._images:
                return replace(kept, threshold=threshold)
            rows = dict(zip(self._images.names, kept.outputs, strict=True))
            chosen = _Recorded([rows[name] for name in images.names])
            batches = self._inputs.batches(images, batch)
            return record_reference(chosen, batches, classes=kept.classes, output=kept.output)

        def judge(model: OnnxModel) -> Comparison:
            if model.digest not in known:
                floats, session = reference(), open_session(model, name="onnx-int8", exact=True)
                known[model.digest] = compare_with(floats, session, self._inputs.batches(images, batch), images.labels)
            return known[model.digest]

        return judge

    def sample(self, images: ImageSet) -> Sample:
        """Return a judge for emulations on some of the images, and their batches."""
        return Sample(self.judge(images, _EMULATED_BATCH), lambda: self._inputs.batches(images, CALIBRATION_BATCH))

    def _reference(self) -> Reference:
        """Return the outputs for all selection images."""
        if self._kept is None:
            batch = batch_that_fits(EVALUATION_BATCH, area_of(self._inputs.preprocess))
            self._kept = record_reference(
                open_session(self._fp32, name="onnx-fp32"),  # not kept: a session holds the weights once or twice more
                self._inputs.batches(self._images, batch),
                classes=self._inputs.task == "classification",
                output=self._inputs.output,
                on_progress=lambda progress: self._report(replace(progress, step="reference")),
                total=len(self._images),
            )
        return self._kept


class _Recorded:
    """A runner that returns the float model's outputs, which are known, in their order."""

    name = "onnx-fp32"

    def __init__(self, rows: Sequence[NDArray[np.float32]]) -> None:
        self._rows, self._next = rows, 0

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the rows of the next images."""
        self._next += len(batch)
        return np.stack(self._rows[self._next - len(batch) : self._next])


def _clock(fp32: OnnxModel, images: ImageSet, inputs: Inputs) -> Clock:
    """Return a function that times an INT8 model and ``fp32`` on one image, their runs interleaved."""
    image = next(inputs.batches(images, 1))

    def clock(model: OnnxModel) -> tuple[float, float]:
        named = (("onnx-int8", model), ("onnx-fp32", fp32))
        ours, floats = measure_latency([open_session(m, name=n) for n, m in named], image, lambda _: None)
        return ours, floats

    return clock


def _goal(options: ExportOptions, source: Source, start: str, images: ImageSet) -> Goal:
    """Return the goal of a climb from the recipe called ``start``, judged on ``images``.

    A shipped recipe was chosen for its network on a thousand ImageNet images. Crops of a few photographs, of which many
    show no object, are a worse judge, so they only check it: climbing on needs a promise that they break.
    """
    percents = options.proof.min_agreement, options.proof.max_drop
    agreement, drop = (None if percent is None else percent / 100 for percent in percents)
    chosen = source.facts.get("weights") == "imagenet" and start != "plain"
    enough = 0.0 if chosen and images.crops is not None else FREE_AGREEMENT
    return Goal(agreement, drop, enough, tuple(options.proof.figures.items()))


def _noise(quantizer: Quantizer, best: Trial, report: OnProgress) -> tuple[LayerNoise, ...]:
    """Return the noise of each layer of the model that the climb ended with, the most sensitive first."""
    report(Progress("sensitivity", 0, 1))
    model, ranges = quantizer.float_model(best.recipe), quantizer.ranges(best.recipe)
    scheme, some = quantizer.scheme(best.recipe), quantizer.some(SENSITIVITY_IMAGES)
    noise = layer_noise(model, ranges, scheme, some, integer=best.model)
    report(Progress("sensitivity", 1, 1))
    return noise


def _domain(quantizer: Quantizer, best: Trial, inputs: Inputs, report: OnProgress) -> DomainRecord | None:
    """Compare held-back calibration images with evaluation images; None without either. Nothing is chosen by it.

    Golden images are synthetic, so they cannot stand in for those that the device will see.
    """
    both = inputs.selection is not None and inputs.evaluation is not None

    def some(images: ImageSet | None) -> Batches | None:
        if images is None:
            return None
        few = images.sample(min(IMAGES if both else _CLIPPING_IMAGES, len(images)))
        return lambda: inputs.batches(few, CALIBRATION_BATCH)

    recipe, held_back, seen = best.recipe, some(inputs.selection), some(inputs.evaluation)
    model, ranges, scheme = quantizer.float_model(recipe), quantizer.ranges(recipe), quantizer.scheme(recipe)
    if held_back is None and seen is None:
        return None
    return compare_domains(model, ranges, scheme, held_back=held_back, seen=seen, on_progress=report)


def starting_recipe(source: Source, options: ExportOptions, fp32: OnnxModel) -> tuple[QuantizationRecipe, str, bool]:
    """Return the recipe of the first rung, its name, and whether it is pinned.

    A network whose recipe ships starts with it, and so does a user's model of that architecture, without the float
    layers that it lacks; both climb on if the goal is missed. TensorRT has recipes of its own.

    Raises
    ------
    UsageError
        ``no-quantization-recipe``, ``tensorrt-scheme``; those of ``load_quantization_recipe``.
    """
    inputs = source.inputs
    folder, engine, asked = shipped_folder() / "recipes", options.gpu.engine is not None, options.precision.recipe
    suffix = "-tensorrt" if engine else ""
    shipped = folder / f"{source.family}{suffix}.toml"
    pinned = asked not in (None, "auto")
    if pinned:
        path = _recipe_path(str(asked), folder, suffix)
        recipe, name = load_quantization_recipe(path), f"recipe {path.stem}"
    elif asked is None and source.trained and shipped.is_file() and inputs.task == "classification":
        recipe, name = load_quantization_recipe(shipped), f"recipe {shipped.stem}"
        known = tuple(layer for layer, nodes in nodes_of(fp32, recipe.float_layers).items() if nodes)
        recipe = replace(recipe, float_layers=known)
    else:
        recipe, name = QuantizationRecipe(scheme="static-w8c-a8s") if engine else QuantizationRecipe(), "plain"
    if engine and not recipe.asked().symmetric:
        raise UsageError(
            f"{name} asks for {recipe.scheme}, and TensorRT's INT8 is symmetric",
            hint='write scheme = "static-w8c-a8s" in it',
            code="tensorrt-scheme",
        )
    if options.precision.ranges is not None:  # they are those of the model before any method
        recipe = without_methods(recipe, Stage.BEFORE_RANGES)
    if inputs.method is not None:
        recipe = replace(recipe, calibrator=inputs.method)
    return recipe, name, pinned


def _recipe_path(asked: str, folder: Path, suffix: str) -> Path:
    """Return the file of --recipe: a path, or the name of a shipped recipe with or without ``suffix``."""
    own = folder / f"{asked}{suffix}.toml"
    named = own if own.is_file() else folder / f"{asked}.toml"
    if Path(asked).is_file():
        return Path(asked)
    if "/" not in asked and not named.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
        raise UsageError(
            f"there is no quantization recipe {asked!r}",
            hint=f"--recipe takes a file, auto, or one of {names}",
            code="no-quantization-recipe",
        )
    return named if named.is_file() else Path(asked)
