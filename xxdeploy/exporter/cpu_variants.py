"""One INT8 file for each kind of processor that needs a file of its own.

- ``vnni``: U8S8, as the ladder made it. Exact on x86 with VNNI.
- ``avx2``: U8S8 for x86 without VNNI, which adds two products in 16 bits. If that would change classes, a second file
  has weights that cannot overflow; it is exact on every processor, so it requires no feature.
- ``arm``: S8S8, which ARM's kernels need. The integers are those of U8S8 shifted by 128, so the answers are the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xxdeploy.errors import VerificationError
from xxdeploy.exporter.ladder import Goal, Judge, loss
from xxdeploy.exporter.quantizer import Quantizer
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import ModelFile, OnProgress, ProcessorVerdict
from xxdeploy.runtime.image.grid import ChannelGrid
from xxdeploy.verify import Comparison

with extra("export"):
    from xxdeploy.lowering.uint8_channels import take_uint8_channels
    from xxdeploy.lowering.x86_file import to_x86_file
    from xxdeploy.quantize import Batches
    from xxdeploy.quantize.effort import Effort, estimate, is_worth
    from xxdeploy.quantize.methods.method import Stage
    from xxdeploy.quantize.methods.registry import rungs_above
    from xxdeploy.quantize.recipe import QuantizationRecipe
    from xxdeploy.quantize.x86.processors import judge_processors, observe_saturation, risky_layers
    from xxdeploy.quantize.x86.saturation import emulate_avx2

SATURATION_IMAGES = 8, 32
"""The second number of images is for models on which no sum overflows on the first."""
_MOST_PAIRS = 500_000 * 224 * 224
"""More saturating pairs times pixels are not emulated: ResNet50 with random weights has 2.9 million pairs, and on 224
times 224 pixels they take 2 to 7 s an image; MobileNetV2's 39,000 take 0.16 s."""
_LITTLE = 1.5
"""The file without overflow is not tuned if its divergence is at most this multiple of the other file's."""
_BEARABLE = 0.005
"""The loss of agreement by 16-bit sums (0..1) that is accepted: half a point."""
_BEARABLE_DB, _FEATURE_IMAGES = 1.0, 24
"""The same for features, and the number of images that shows it: noise varies less than classes."""
_CHANCE = 0.05
"""So many lost images or more decide without a look at more images: they have this chance if the loss is bearable."""
_DIVERGED = 0.02
"""An increase of the mean KL divergence, in nats, that decides likewise: an INT8 MobileNetV2 diverges by 0.004."""


@dataclass(frozen=True, slots=True)
class CpuFiles:
    """The INT8 files in order of preference, the verdicts that led to them, and sentences about both.

    ``narrow`` compares the file without overflow with the float model on the selection images; None without that file,
    or with random weights. The other files compute what the ladder's model computes.
    """

    files: tuple[ModelFile, ...]
    verdicts: tuple[ProcessorVerdict, ...]
    sentences: tuple[str, ...]
    narrow: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Compares a model with the float one on a few images, whose preprocessed ``batches`` are known."""

    judge: Judge
    batches: Batches


@dataclass(frozen=True, slots=True)
class Judges:
    """Compare a model with the float one on all selection images, or for slow models on a few of them.

    ``few`` is in the order of the number of images; a later one is asked where the one before it leaves a doubt. An
    image has so many ``pixels``.
    """

    many: Judge
    few: Sequence[Sample]
    pixels: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """How far a file without overflow is tuned: at which effort, and for which promises in any case."""

    effort: Effort = "normal"
    goal: Goal = Goal()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True)
class _Overflow:
    """16-bit sums: an overflow is ``possible`` for some input, and ``matters`` if answers change on the images seen."""

    possible: bool
    matters: bool
    verdicts: tuple[ProcessorVerdict, ...]
    why: str


def int8_variants(
    quantizer: Quantizer,
    recipe: QuantizationRecipe,
    model: OnnxModel,
    *,
    cpu: str | None,
    judges: Judges | None,
    tuning: Tuning,
    report: OnProgress,
) -> CpuFiles:
    """Return the files for the processor ``cpu`` (``vnni``, ``avx2`` or ``arm``), or for all kinds.

    Without ``judges`` (random weights), and where emulation would take long, every layer whose sums could overflow for
    some input counts as broken.
    """
    name = recipe.asked().name
    overflow = _overflow(quantizer, model, cpu, judges, report)
    files: list[ModelFile] = []
    sentences = []
    narrow = None
    if cpu in (None, "vnni"):
        # Without overflow the file is exact on every processor, and requires nothing.
        shipped = to_x86_file(model, quantizer.grid, any_order=overflow.matters or not overflow.possible)
        files.append(ModelFile("int8", shipped, name, ("vnni",) if overflow.matters else (), model))
        sentences.append(f"int8, for x86{' with VNNI' if overflow.matters else ''}: {overflow.why}")
    if cpu in (None, "arm"):
        arm = quantizer.build(recipe, signed=True)
        if isinstance(quantizer.grid, ChannelGrid):
            arm = take_uint8_channels(arm, quantizer.grid)
        files.append(ModelFile("int8-arm", arm, replace(recipe.asked(), signed=True).name, ("arm",), model))
        sentences.append("int8-arm, for ARM: the same integers shifted by 128 (S8S8), so the same answers")
    if cpu == "avx2" or (cpu is None and overflow.matters):
        exact, narrow = _narrow(quantizer, recipe, model, judges, tuning)
        shipped = to_x86_file(exact, quantizer.grid, any_order=True)
        files.append(ModelFile("int8-avx2", shipped, name, (), exact))
        sentences.append(f"int8-avx2, for x86 without VNNI: no sum can overflow{_kept(narrow)}")
    # The first file whose requirements are met is picked, so a file without requirements comes last.
    files.sort(key=lambda file: not file.requires)
    return CpuFiles(tuple(files), overflow.verdicts, tuple(sentences), narrow)


def _overflow(
    quantizer: Quantizer, model: OnnxModel, cpu: str | None, judges: Judges | None, report: OnProgress
) -> _Overflow:
    """Find out whether 16-bit sums could overflow in ``model``, and whether that changes its answers."""
    risky = {layer: pairs for layer, pairs in risky_layers(model).items() if pairs} if cpu != "arm" else {}
    if not risky:
        return _Overflow(False, False, judge_processors({}), "exact on every processor")
    can = f"16-bit sums can overflow without VNNI, in {_layers(len(risky))}"
    if judges is None:
        return _Overflow(True, True, _unmeasured(risky), can)
    if sum(risky.values()) * judges.pixels > _MOST_PAIRS:
        why = f"{can} (too many pairs of weights to emulate: {sum(risky.values()):,})"
        return _Overflow(True, True, _unmeasured(risky), why)
    verdicts = judge_processors({})
    for count in SATURATION_IMAGES:
        verdicts = judge_processors(observe_saturation(model, quantizer.some(count), on_progress=report))
        if not all(verdict.exact for verdict in verdicts):
            break
    matters, why = _is_broken(model, verdicts, judges.few)
    return _Overflow(True, matters, verdicts, why)


def _unmeasured(risky: Mapping[str, int]) -> tuple[ProcessorVerdict, ...]:
    """Return the verdicts where nothing was run: each layer that could overflow for some input counts as broken."""
    broken = ProcessorVerdict("avx2", False, tuple(risky), max(risky, key=risky.__getitem__))
    return tuple(broken if verdict.cpu == "avx2" else verdict for verdict in judge_processors({}))


def _narrow(
    quantizer: Quantizer, recipe: QuantizationRecipe, wide: OnnxModel, judges: Judges | None, tuning: Tuning
) -> tuple[OnnxModel, Comparison | None]:
    """Return the model whose weights cannot overflow, tuned if that helps: they are rounded to larger steps.

    Weights that an 8-bit grid holds exactly lose precision here. So tuning is left out where the ladder would climb no
    further and little is lost compared with ``wide``, the file for other processors, and where no image would show it.
    """
    all_layers = frozenset({"all"})
    if judges is None:
        return quantizer.build(recipe, narrow=all_layers), None
    many = judges.many

    def built(tried: QuantizationRecipe) -> tuple[OnnxModel, Comparison]:
        model = quantizer.build(tried, narrow=all_layers)
        return model, replace(many(model), candidate="onnx-int8-avx2")

    best = built(recipe)
    for rung, tried in rungs_above(recipe, Stage.AFTER_RANGES):
        comparison = best[1]
        little = Goal().holds(comparison) and loss(comparison) <= _LITTLE * loss(many(wide))
        expected = estimate(rung, comparison.agreement, comparison.images, 0.0)
        if little or not is_worth(tuning.effort, expected, is_broken=tuning.goal.is_broken(comparison)):
            continue
        trial = built(tried)
        if loss(trial[1]) < loss(comparison):
            best = trial
    return best


def _is_broken(model: OnnxModel, verdicts: tuple[ProcessorVerdict, ...], few: Sequence[Sample]) -> tuple[bool, str]:
    """Return whether 16-bit sums change the model's answers, and a sentence about it."""
    verdict = next(verdict for verdict in verdicts if verdict.cpu == "avx2")
    if verdict.exact:
        return False, "16-bit sums could overflow without VNNI, and did not on any image seen"
    where = (
        f"16-bit sums overflow without VNNI, in {_layers(len(verdict.saturating_layers))}, "
        f"worst in {verdict.worst_layer} (up to {verdict.worst_steps:.0f} steps)"
    )
    matters, effect = False, ""
    for sample in few:
        matters, is_clear, effect = _effect(sample.judge(model), _saturated(model, sample))
        if is_clear:
            break
    return matters, f"{where}: {effect}"


def _effect(exact: Comparison, saturated: Comparison) -> tuple[bool, bool, str]:
    """Return whether 16-bit sums cost too much, whether so many images show that clearly, and the figures.

    Of a sequence of ever more images the first clear loss decides. A model that is called broken by chance gets a file
    that is right, too, only a little less accurate.
    """
    if exact.agreement is None or saturated.agreement is None:
        worse = (exact.sqnr_db or 0) - (saturated.sqnr_db or 0)
        matters = worse > _BEARABLE_DB
        return matters, matters or exact.images >= _FEATURE_IMAGES, f"{worse:.1f} dB lost ({exact.images} images)"
    lost, images = exact.agreement - saturated.agreement, exact.images
    figures = f"agreement {100 * exact.agreement:.1f} -> {100 * saturated.agreement:.1f} %"
    diverged = False
    if exact.kl_mean is not None and saturated.kl_mean is not None:
        figures += f", KL {exact.kl_mean:.3f} -> {saturated.kl_mean:.3f}"
        diverged = saturated.kl_mean - exact.kl_mean > _DIVERGED
    is_clear = diverged or _chance(round(lost * images), images) < _CHANCE
    return is_clear or lost > _BEARABLE, is_clear, f"{figures} ({images} images)"


def _chance(lost: int, images: int) -> float:
    """Return the probability that ``lost`` or more of the images change their class if a bearable share does."""
    fewer = (math.comb(images, k) * _BEARABLE**k * (1 - _BEARABLE) ** (images - k) for k in range(lost))
    return 1 - sum(fewer)


def _saturated(model: OnnxModel, sample: Sample) -> Comparison:
    """Compare the emulation of 16-bit sums with the float model."""
    try:
        return sample.judge(emulate_avx2(model, sample.batches))
    except VerificationError as error:
        if error.code != "non-finite-output":
            raise
        return sample.judge(emulate_avx2(model))  # an image goes beyond what it reaches in the exact model


def _kept(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    if comparison.agreement is None:
        return f", SQNR {comparison.sqnr_db or 0:.1f} dB"
    return f", agreement {100 * comparison.agreement:.1f} % ({comparison.images} images)"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"
