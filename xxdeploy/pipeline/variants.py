"""One INT8 file for each kind of processor that needs one of its own.

- ``vnni``: U8S8, as the ladder made it. Exact on x86 with VNNI.
- ``avx2``: the same for x86 without, which adds two products in 16 bits. Where that would change classes, a second file
  whose weights cannot overflow there; it is right on every processor, so nothing is required for it.
- ``arm``: S8S8, what ARM's kernels are made for. The same integers, shifted by 128, so the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xxdeploy.artifacts import OnnxModel, OnProgress
from xxdeploy.optional import extra
from xxdeploy.pipeline.ladder import loss
from xxdeploy.pipeline.workshop import Workshop
from xxdeploy.verify import Comparison

with extra("export"):
    from xxdeploy.quantize.processors import ProcessorVerdict, judge_processors, observe_saturation, risky_layers
    from xxdeploy.quantize.recipe import Recipe
    from xxdeploy.quantize.saturation import emulate_avx2

SATURATION_IMAGES = 32
_BEARABLE = 0.005
"""Loss of agreement by 16-bit sums that is left alone: half a point."""

Judge = Callable[[OnnxModel], Comparison]


@dataclass(frozen=True, slots=True)
class BuiltVariant:
    """A model file: its ``name`` in the manifest, the processor features it ``requires``, and how it is written.

    ``answers`` is the model that computes, on this machine, what this one computes on its own processor.
    """

    name: str
    model: OnnxModel
    scheme: str
    requires: tuple[str, ...]
    answers: OnnxModel


@dataclass(frozen=True, slots=True)
class Variants:
    """The files, in order of preference, the verdicts they follow from, and sentences about both."""

    built: tuple[BuiltVariant, ...]
    verdicts: tuple[ProcessorVerdict, ...]
    sentences: tuple[str, ...]


def int8_variants(
    workshop: Workshop,
    recipe: Recipe,
    model: OnnxModel,
    *,
    cpu: str | None,
    judge: Judge | None,
    report: OnProgress,
) -> Variants:
    """Return the files for the processor ``cpu``, or for all kinds.

    ``judge`` compares a model with the float one on images; without it (random weights) every layer whose sums could
    overflow for some input counts as broken.
    """
    sentences: list[str] = []
    built: list[BuiltVariant] = []
    name = recipe.asked().name
    overflows, verdicts = False, judge_processors({})
    if cpu in (None, "vnni", "avx2") and any(risky_layers(model).values()):
        found = observe_saturation(model, workshop.some(SATURATION_IMAGES), on_progress=report)
        verdicts = judge_processors(found)
        overflows, sentence = _is_broken(model, verdicts, judge)
        sentences.append(sentence)
    if cpu in (None, "vnni"):
        # Where nothing overflows, the file is right everywhere.
        built.append(BuiltVariant("int8", model, name, ("vnni",) if overflows else (), model))
    if cpu in (None, "arm"):
        arm = workshop.build(recipe, signed=True)
        built.append(BuiltVariant("int8-arm", arm, f"{name}i", ("arm",), model))
        sentences.append("arm: S8S8, the same integers shifted by 128, so the same answers")
    if cpu == "avx2" or (cpu is None and overflows):
        narrow = _narrow(workshop, recipe, judge)
        built.append(BuiltVariant("int8-avx2", narrow, name, (), narrow))
    return Variants(_ordered(built), verdicts, tuple(sentences))


def _narrow(workshop: Workshop, recipe: Recipe, judge: Judge | None) -> OnnxModel:
    """Return the model whose weights cannot overflow, tuned if that helps: they are rounded to larger steps.

    Weights that lie on an 8-bit grid, and lose nothing on other processors, lose here.
    """
    tuned = replace(recipe, bias_correction="empirical", rounding="adaptive")
    recipes = [recipe] if judge is None else list(dict.fromkeys([recipe, tuned]))
    models = [workshop.build(each, narrow=frozenset({"all"})) for each in recipes]
    if judge is None or len(models) == 1:
        return models[0]
    return min(models, key=lambda each: loss(judge(each)))


def _ordered(built: Sequence[BuiltVariant]) -> tuple[BuiltVariant, ...]:
    """The first whose requirements are met is picked, so the one that requires nothing comes last."""
    return tuple(sorted(built, key=lambda each: not each.requires))


def _is_broken(model: OnnxModel, verdicts: Sequence[ProcessorVerdict], judge: Judge | None) -> tuple[bool, str]:
    """Tell whether 16-bit sums change what the model says, and say so."""
    verdict = next(each for each in verdicts if each.cpu == "avx2")
    if verdict.exact:
        return judge is None, "avx2: 16-bit sums could overflow, but did not on any image seen"
    where = (
        f"avx2: 16-bit sums overflow in {len(verdict.saturating_layers)} layers, worst in {verdict.worst_layer} "
        f"({100 * verdict.worst_share:.2g} % of its values, by up to {verdict.worst_steps:.0f} steps)"
    )
    if judge is None:
        return True, where
    exact, saturated = judge(model), judge(emulate_avx2(model))
    if exact.agreement is None or saturated.agreement is None:
        worse = (exact.sqnr_db or 0) - (saturated.sqnr_db or 0)
        return worse > 1, f"{where}: {worse:.1f} dB lost"
    lost = exact.agreement - saturated.agreement
    shares = f"{100 * exact.agreement:.1f} -> {100 * saturated.agreement:.1f} % agreement ({exact.images} images)"
    return lost > _BEARABLE, f"{where}: {shares}"
