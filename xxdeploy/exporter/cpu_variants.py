"""One INT8 file for each kind of processor that needs one of its own.

- ``vnni``: U8S8, as the ladder made it. Exact on x86 with VNNI.
- ``avx2``: the same for x86 without, which adds two products in 16 bits. Where that would change classes, a second file
  whose weights cannot overflow there; it is right on every processor, so nothing is required for it.
- ``arm``: S8S8, what ARM's kernels are made for. The same integers, shifted by 128, so the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xxdeploy.exporter.ladder import Goal, Judge, loss
from xxdeploy.exporter.quantizer import Workshop
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress, ProcessorVerdict
from xxdeploy.runtime.image.grid import ChannelGrid
from xxdeploy.verify import Comparison

with extra("export"):
    from xxdeploy.lowering.uint8_channels import take_uint8_channels
    from xxdeploy.lowering.x86_file import to_x86_file
    from xxdeploy.quantize.recipe import QuantizationRecipe
    from xxdeploy.quantize.x86.processors import judge_processors, observe_saturation, risky_layers
    from xxdeploy.quantize.x86.saturation import emulate_avx2

SATURATION_IMAGES = 32
_LITTLE = 1.5
"""Times the divergence of the other file at which tuning is not worth its time."""
_BEARABLE = 0.005
"""Loss of agreement by 16-bit sums that is left alone: half a point."""


@dataclass(frozen=True, slots=True)
class BuiltVariant:
    """A model file: its ``name`` in the manifest, the processor features it ``requires``, and how it is written.

    ``answers`` is the model that computes, on this machine, what this one computes on its own processor.
    ``comparison`` is with the float model on the selection images, None where the ladder's is right for it.
    """

    name: str
    model: OnnxModel
    scheme: str
    requires: tuple[str, ...]
    answers: OnnxModel
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Variants:
    """The files, in order of preference, the verdicts they follow from, and sentences about both."""

    built: tuple[BuiltVariant, ...]
    verdicts: tuple[ProcessorVerdict, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judges:
    """What compares a model with the float one: on all selection images, and on a few, one by one, for slow models."""

    many: Judge
    few: Judge


def int8_variants(
    workshop: Workshop,
    recipe: QuantizationRecipe,
    model: OnnxModel,
    *,
    cpu: str | None,
    judges: Judges | None,
    report: OnProgress,
) -> Variants:
    """Return the files for the processor ``cpu``, or for all kinds.

    Without ``judges`` (random weights) every layer whose sums could overflow for some input counts as broken.
    """
    built: list[BuiltVariant] = []
    name = recipe.asked().name
    overflows, verdicts, why = False, judge_processors({}), "exact on every processor"
    risky = {layer: pairs for layer, pairs in risky_layers(model).items() if pairs} if cpu != "arm" else {}
    if risky and judges is None:
        worst = max(risky, key=risky.__getitem__)
        verdicts = tuple(
            ProcessorVerdict("avx2", False, tuple(risky), worst) if each.cpu == "avx2" else each for each in verdicts
        )
        overflows, why = True, f"16-bit sums can overflow without VNNI, in {_layers(len(risky))}"
    elif risky and judges is not None:
        found = observe_saturation(model, workshop.some(SATURATION_IMAGES), on_progress=report)
        verdicts = judge_processors(found)
        overflows, why = _is_broken(model, verdicts, judges.few)
    sentences = []
    if cpu in (None, "vnni"):
        # Where nothing overflows, the file is right everywhere.
        built.append(
            BuiltVariant(
                "int8",
                to_x86_file(model, workshop.grid, any_order=overflows or not risky),
                name,
                ("vnni",) if overflows else (),
                model,
            )
        )
        sentences.append(f"int8, for x86{' with VNNI' if overflows else ''}: {why}")
    if cpu in (None, "arm"):
        arm = workshop.build(recipe, signed=True)
        if isinstance(workshop.grid, ChannelGrid):
            arm = take_uint8_channels(arm, workshop.grid)
        built.append(BuiltVariant("int8-arm", arm, replace(recipe.asked(), signed=True).name, ("arm",), model))
        sentences.append("int8-arm, for ARM: the same integers shifted by 128 (S8S8), so the same answers")
    if cpu == "avx2" or (cpu is None and overflows):
        narrow, comparison = _narrow(workshop, recipe, model, judges)
        built.append(
            BuiltVariant("int8-avx2", to_x86_file(narrow, workshop.grid, any_order=True), name, (), narrow, comparison)
        )
        sentences.append(f"int8-avx2, for x86 without VNNI: no sum can overflow{_kept(comparison)}")
    return Variants(_ordered(built), verdicts, tuple(sentences))


def _narrow(
    workshop: Workshop, recipe: QuantizationRecipe, wide: OnnxModel, judges: Judges | None
) -> tuple[OnnxModel, Comparison | None]:
    """Return the model whose weights cannot overflow, tuned if that helps: they are rounded to larger steps.

    Weights that lie on an 8-bit grid, and lose nothing on other processors, lose here. Tuning takes minutes, four
    fifths of an export of ResNet50: where the ladder would climb no further, and little is lost beside ``wide``, the
    file for other processors, it is left out.
    """
    all_layers = frozenset({"all"})
    if judges is None:
        return workshop.build(recipe, narrow=all_layers), None
    best: tuple[OnnxModel, Comparison] | None = None
    for each in dict.fromkeys([recipe, replace(recipe, bias_correction="empirical", rounding="adaptive")]):
        model = workshop.build(each, narrow=all_layers)
        found = replace(judges.many(model), candidate="onnx-int8-avx2")
        if best is None or loss(found) < loss(best[1]):
            best = model, found
        if Goal().holds(found) and loss(found) <= _LITTLE * loss(judges.many(wide)):
            break
    assert best is not None
    return best


def _ordered(built: Sequence[BuiltVariant]) -> tuple[BuiltVariant, ...]:
    """The first whose requirements are met is picked, so the one that requires nothing comes last."""
    return tuple(sorted(built, key=lambda each: not each.requires))


def _is_broken(model: OnnxModel, verdicts: Sequence[ProcessorVerdict], judge: Judge) -> tuple[bool, str]:
    """Tell whether 16-bit sums change what the model says, and say so."""
    verdict = next(each for each in verdicts if each.cpu == "avx2")
    if verdict.exact:
        return False, "16-bit sums could overflow without VNNI, and did not on any image seen"
    where = (
        f"16-bit sums overflow without VNNI, in {_layers(len(verdict.saturating_layers))}, "
        f"worst in {verdict.worst_layer} (up to {verdict.worst_steps:.0f} steps)"
    )
    exact, saturated = judge(model), judge(emulate_avx2(model))
    if exact.agreement is None or saturated.agreement is None:
        worse = (exact.sqnr_db or 0) - (saturated.sqnr_db or 0)
        return worse > 1, f"{where}: {worse:.1f} dB lost"
    lost = exact.agreement - saturated.agreement
    shares = f"agreement {100 * exact.agreement:.1f} -> {100 * saturated.agreement:.1f} % ({exact.images} images)"
    return lost > _BEARABLE, f"{where}: {shares}"


def _kept(found: Comparison | None) -> str:
    if found is None:
        return ""
    if found.agreement is None:
        return f", SQNR {found.sqnr_db or 0:.1f} dB"
    return f", agreement {100 * found.agreement:.1f} % ({found.images} images)"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"
