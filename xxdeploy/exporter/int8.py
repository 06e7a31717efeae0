"""The INT8 half of an export: climb, judge what came out on every kind of processor, and say which layer hurts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xxdeploy.datasets import ImageSet
from xxdeploy.datasets.batch_size import EVALUATION_BATCH, batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.exporter.cpu_variants import BuiltVariant, Judges, Variants, int8_variants
from xxdeploy.exporter.ladder import Climb, Goal, Judge, climb
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.quantizer import Workshop, has_layer
from xxdeploy.exporter.source import Source
from xxdeploy.exporter.stages import measure_latency
from xxdeploy.models.samples import shipped_folder
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import Evidence, LayerNoise, OnProgress, Progress, Ranges, noise_to_json
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify import Comparison, compare_with, record_reference

with extra("export"):
    from xxdeploy.quantize.measure.sensitivity import layer_noise
    from xxdeploy.quantize.recipe import QuantizationRecipe, load_quantization_recipe

SENSITIVITY_IMAGES = 16
_EMULATED_IMAGES = 96
"""Emulating 16-bit sums takes several times as long as running the model."""
_UNTRAINED_IMAGES = 16
"""Random weights keep no class: a few images show that the network runs."""
_EMULATED_BATCH = 1
"""And several times the memory, for each image in a batch."""


@dataclass(frozen=True, slots=True)
class Int8:
    """What came of it: the models, the ranges they share, the noise of each layer, and evidence for the manifest."""

    climbed: Climb
    variants: Variants
    ranges: Ranges
    noise: tuple[LayerNoise, ...]

    @property
    def records(self) -> Mapping[str, bytes]:
        """Files for the bundle."""
        return {"sensitivity.json": noise_to_json(self.noise).encode()}

    @property
    def judged(self) -> tuple[Comparison, ...]:
        """How each model that computes something of its own compares with the float one, on the selection images."""
        others = (each.comparison for each in self.variants.built)
        return self.climbed.comparison, *(each for each in others if each is not None)

    @property
    def evidence(self) -> Evidence:
        """Return the INT8 part of the manifest's evidence."""
        return Evidence(
            recipe=self.climbed.recipe.to_json(),
            ladder=self.climbed.rungs,
            selection=tuple(comparison.record for comparison in self.judged),
            processors=self.variants.verdicts,
        )


def make_int8(
    source: Source,
    options: ExportOptions,
    fp32: OnnxModel,
    report: OnProgress,
) -> Int8:
    """Quantize ``fp32`` as ``options`` asks.

    With random weights there is nothing to judge by: the first rung, or the pinned recipe, is taken as it is.
    """
    inputs, trained = source.inputs, source.trained
    workshop = Workshop(fp32, inputs, report, tensorrt=options.gpu.engine is not None, given=options.precision.ranges)
    start, name, pinned = starting_recipe(source, options, fp32)
    images = inputs.selection or inputs.calibration
    assert images is not None  # follow() has seen to it
    if not trained:
        images = images.sample(min(_UNTRAINED_IMAGES, len(images)))
    few = images.sample(min(_EMULATED_IMAGES, len(images)))
    first = next(iter(few.batches(inputs.preprocess, 1)))

    def judge_on(chosen: ImageSet, batch: int) -> Judge:
        kept = record_reference(
            OrtSession(fp32.to_bytes(), name="onnx-fp32"),  # not kept: a session holds the weights once or twice more
            chosen.batches(inputs.preprocess, batch),
            classes=inputs.task == "classification",
            on_progress=lambda progress: report(replace(progress, step="reference")),
            total=len(chosen),
        )

        def judge(model: OnnxModel) -> Comparison:
            session = OrtSession(model.to_bytes(), name="onnx-int8", exact=True)
            return compare_with(kept, session, chosen.batches(inputs.preprocess, batch), chosen.labels)

        return judge

    def clock(model: OnnxModel) -> tuple[float, float]:
        sessions = [OrtSession(model.to_bytes(), name="onnx-int8"), OrtSession(fp32.to_bytes(), name="onnx-fp32")]
        ours, floats = measure_latency(sessions, first, lambda _: None)
        return ours, floats

    judge = judge_on(images, batch_that_fits(EVALUATION_BATCH, inputs.preprocess.height, inputs.preprocess.width))
    goal = Goal(
        None if options.proof.min_agreement is None else options.proof.min_agreement / 100,
        None if options.proof.max_drop is None else options.proof.max_drop / 100,
    )
    climbed = climb(
        workshop,
        judge,
        clock,
        goal,
        start=start,
        name=name,
        pinned=pinned or not trained,
        report=report,
    )
    if options.gpu.engine is not None:
        variants = Variants(
            (BuiltVariant("int8", climbed.model, climbed.recipe.asked().name, (), climbed.model),), (), ()
        )
    else:
        variants = int8_variants(
            workshop,
            climbed.recipe,
            climbed.model,
            cpu=options.precision.cpu,
            judges=Judges(judge, judge_on(few, _EMULATED_BATCH)) if trained else None,
            report=report,
        )
    report(Progress("sensitivity", 0, 1))
    noise = layer_noise(
        workshop.float_model(climbed.recipe),
        workshop.ranges(climbed.recipe),
        workshop.scheme(climbed.recipe),
        workshop.some(SENSITIVITY_IMAGES),
        integer=climbed.model,
    )
    report(Progress("sensitivity", 1, 1))
    return Int8(climbed, variants, workshop.ranges(climbed.recipe), noise)


def starting_recipe(source: Source, options: ExportOptions, fp32: OnnxModel) -> tuple[QuantizationRecipe, str, bool]:
    """Return the first rung's recipe, what it is called, and whether it is pinned.

    A network whose recipe ships starts there, and so does a model made from one, without the layers that it does not
    have; both climb on where that does not hold. TensorRT's layout is another, so it has recipes of its own.
    """
    inputs = source.inputs
    folder = shipped_folder() / "recipes"
    suffix, plain = (
        ("", QuantizationRecipe())
        if options.gpu.engine is None
        else ("-tensorrt", QuantizationRecipe(scheme="static-w8c-a8s"))
    )
    shipped = folder / f"{source.family}{suffix}.toml"
    if options.precision.recipe not in (None, "auto"):
        path = _recipe_path(str(options.precision.recipe), folder, suffix)
        recipe, name, pinned = load_quantization_recipe(path), f"recipe {path.stem}", True
    elif options.precision.recipe is None and source.trained and shipped.is_file() and inputs.task == "classification":
        recipe, name, pinned = load_quantization_recipe(shipped), f"recipe {shipped.stem}", False
        known = tuple(layer for layer in recipe.float_layers if has_layer(fp32, layer))
        recipe = replace(recipe, float_layers=known)
    else:
        recipe, name, pinned = plain, "plain", False
    if options.gpu.engine is not None and not recipe.asked().symmetric:
        raise UsageError(
            f"{name} asks for {recipe.scheme}, and TensorRT's INT8 is symmetric",
            hint='write scheme = "static-w8c-a8s" in it',
            code="tensorrt-scheme",
        )
    if options.precision.ranges is not None and recipe.equalization:
        recipe = replace(recipe, equalization=False)  # what was measured is right for the float model as it is
    if inputs.method is not None:
        recipe = replace(recipe, calibrator=inputs.method)
    return recipe, name, pinned


def _recipe_path(asked: str, folder: Path, suffix: str) -> Path:
    """Return the file that ``--recipe`` names: a path, or the name of one that ships, ``suffix`` left out or not."""
    own = folder / f"{asked}{suffix}.toml"
    named = own if own.is_file() else folder / f"{asked}.toml"
    if not Path(asked).is_file() and "/" not in asked and not named.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
        raise UsageError(
            f"there is no quantization recipe {asked!r}",
            hint=f"--recipe takes a file, auto, or one of {names}",
            code="no-quantization-recipe",
        )
    return Path(asked) if Path(asked).is_file() or not named.is_file() else named
