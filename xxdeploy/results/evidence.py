"""The manifest's ``evidence``: the results of an export, as typed values and as JSON.

A bundle comes from somewhere else, so types and ranges are checked when evidence is read. Parts may be absent, and keys
that are not known here are skipped: bundles of every version of xxdeploy can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from xxdeploy.results.domain import DomainRecord
from xxdeploy.results.figures import Figure
from xxdeploy.results.record_json import json_from_record, record_from_json
from xxdeploy.results.scores import ScoreShift
from xxdeploy.results.values import StepRecord
from xxdeploy.runtime.bundle.strict_json import JsonValue, as_object, typed, wrong_value

R = TypeVar("R")
_LARGEST_INTEGER = 1 << 53


def _check_shares(**shares: float | None) -> None:
    for name, share in shares.items():
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"{name} must be 0 to 1, not {share}")


def _check_images(images: int) -> None:
    if images < 1:
        raise ValueError(f"{images} images cannot have been measured")


@dataclass(frozen=True, slots=True)
class Parity:
    """The distance of a stage's outputs from the reference's, on the same images.

    ``stage`` is the model that was measured (``onnx-int8``), ``output`` its output by name (empty: the first), and
    ``optimized`` is False where ONNX Runtime ran it with its graph optimizations off. ``max_abs`` and ``mean_abs`` are
    over all output values; ``max_rel`` is ``max_abs`` over the largest reference magnitude; ``cosine`` is the lowest
    cosine similarity of any image; ``agreement`` the share (0..1) of images with the same top-1 class. ``scores`` is
    the lowest cosine of the softmax's inputs, about their mean; None where the outputs are no probabilities.
    """

    reference: str
    stage: str
    images: int
    max_abs: float
    mean_abs: float
    max_rel: float
    cosine: float
    agreement: float
    scores: float | None = None
    output: str = ""
    optimized: bool = True

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_shares(agreement=self.agreement)

    @property
    def mean_rel(self) -> float:
        """Return ``mean_abs`` over the largest reference magnitude."""
        return self.mean_abs * self.max_rel / self.max_abs if self.max_abs else 0.0

    @property
    def title(self) -> str:
        """Return the stage and, if it is not the first, its output: ``embedding of onnx-int8``."""
        return f"{self.output} of {self.stage}" if self.output else self.stage

    @property
    def candidate(self) -> str:
        """Return the measured model for messages: ``onnx-int8, unoptimized``."""
        return self.title if self.optimized else f"{self.title}, unoptimized"

    def to_json(self) -> dict[str, JsonValue]:
        """Return the fields, floats with three digits: the last bits of a sum of rounding errors do not repeat."""
        values = json_from_record(self)
        rounded = {key: float(f"{value:.3g}") for key, value in values.items() if isinstance(value, float)}
        return {**values, **rounded, "candidate": self.candidate}

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> Parity:
        """Read an entry; the stage of older bundles stands in ``candidate``: ``block of onnx-fp32, unoptimised``."""
        entries = dict(as_object(value, where))
        if "stage" not in entries and isinstance(candidate := entries.get("candidate"), str):
            title, _, how = candidate.partition(", ")
            output, _, stage = title.rpartition(" of ")
            entries |= {"stage": stage, "output": output, "optimized": not how}
        return record_from_json(cls, entries, where)


def worst_parities(parities: Iterable[Parity]) -> dict[str, Parity]:
    """Return one parity for each ``title``: of ONNX Runtime's optimizations off and on the worse, figure by figure."""
    worst: dict[str, Parity] = {}
    for parity in parities:
        other = worst.setdefault(parity.title, parity)
        worst[parity.title] = replace(
            parity,
            max_abs=max(parity.max_abs, other.max_abs),
            mean_abs=max(parity.mean_abs, other.mean_abs),
            max_rel=max(parity.max_rel, other.max_rel),
            cosine=min(parity.cosine, other.cosine),
            agreement=min(parity.agreement, other.agreement),
        )
    return worst


@dataclass(frozen=True, slots=True)
class ComparisonRecord:
    """A :class:`xxdeploy.verify.Comparison`, rounded to the digits that repeat; None where a figure was not measured.

    Shares are 0..1, ``change`` is that of top-1 (negative for a loss), intervals are at 95 %. ``figures`` are those of
    the tasks ``image`` and ``values``.
    """

    reference: str
    candidate: str
    images: int
    cosine: float
    sqnr_db: float | None = None
    agreement: float | None = None
    agreement_interval: tuple[float, float] | None = None
    kl_nats: float | None = None
    top1: tuple[float, float] | None = None
    change: float | None = None
    change_interval: tuple[float, float] | None = None
    gained: int | None = None
    lost: int | None = None
    mcnemar_p: float | None = None
    scores: ScoreShift | None = None
    figures: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        _check_images(self.images)
        before, after = self.top1 or (None, None)
        _check_shares(agreement=self.agreement, reference_top1=before, candidate_top1=after)
        if (self.agreement is None) != (self.agreement_interval is None):
            raise ValueError("an agreement needs its interval")
        if len({self.top1 is None, self.change is None, self.change_interval is None}) > 1:
            raise ValueError("top1, change and change_interval belong together")


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the INT8 ladder, compared with the float model on the selection images.

    ``taken`` tells whether it is in the bundle, ``reason`` why not. ``milliseconds`` is the median of one image,
    interleaved with the float model's ``float_milliseconds``; ``seconds`` is the time to make it. Before it was made
    ``expected_seconds`` and the gain of agreement ``expected_gain`` (0..1) were expected; None for the first rung, and
    the gain for features. Manifests hold no times, so all of these are None where the rung was read from one.
    """

    name: str
    taken: bool
    comparison: ComparisonRecord
    milliseconds: float | None = None
    float_milliseconds: float | None = None
    seconds: float | None = None
    reason: str = ""
    expected_seconds: float | None = None
    expected_gain: float | None = None

    @property
    def drop(self) -> float | None:
        """Return the loss of top-1 (0..1), negative for a gain."""
        return None if self.comparison.change is None else 0.0 - self.comparison.change

    @property
    def of_float(self) -> float | None:
        """Return the time as a ratio of the float model's."""
        ours, floats = self.milliseconds, self.float_milliseconds
        return None if ours is None or floats is None else ours / floats


@dataclass(frozen=True, slots=True)
class ProcessorVerdict:
    """The judgement of an INT8 model on one kind of processor: ``vnni``, ``avx2`` or ``arm``.

    ``exact``: every layer computes what the graph says, on the images seen. Otherwise ``saturating_layers`` are off,
    the worst first; ``worst_layer`` has the largest error, ``worst_steps`` (steps of its output), and ``worst_share``
    (0..1) of its values are off.
    """

    cpu: str
    exact: bool
    saturating_layers: tuple[str, ...] = ()
    worst_layer: str | None = None
    worst_share: float = 0.0
    worst_steps: float = 0.0

    def __post_init__(self) -> None:
        if self.cpu not in CPUS:
            raise ValueError(f"cpu must be one of {', '.join(CPUS)}, not {self.cpu!r}")
        if self.exact == bool(self.saturating_layers) or (self.worst_layer is None) != self.exact:
            raise ValueError("exact means without saturating layers")


WARNING = "WARNING:"
"""The beginning of a note that gives a reason to doubt the input of the proof; it is shown first."""
CPUS = ("vnni", "avx2", "arm")


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """``method`` is the calibrator, ``data_sha256`` the digest of the images and of how they were preprocessed."""

    method: str
    images: int
    data_sha256: str


@dataclass(frozen=True, slots=True)
class RunnerAccuracy:
    """Shares (0..1) of one runner; ``agreement`` is with the first runner, Keras."""

    runner: str
    agreement: float | None = None
    top1: float | None = None
    top5: float | None = None

    def __post_init__(self) -> None:
        _check_shares(agreement=self.agreement, top1=self.top1, top5=self.top5)


@dataclass(frozen=True, slots=True)
class AccuracyRecord:
    """Accuracy of each runner on the evaluation images; ``data_sha256`` as in :class:`CalibrationRecord`."""

    images: int
    data_sha256: str
    runners: tuple[RunnerAccuracy, ...]

    def __post_init__(self) -> None:
        _check_images(self.images)


@dataclass(frozen=True, slots=True)
class Fp16Record:
    """``kept`` maps the layers that stay in float32 to the reason; ``largest`` is the largest magnitude seen."""

    kept: Mapping[str, str]
    largest: float | None = None


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """The proof of a TensorRT engine's precision.

    ``depth`` is ``network`` (read from the parsed network) or ``engine`` (also from the built layers, of which
    ``built_layers`` counts each precision). ``shares`` is the share (0..1) of each precision in the ``macs``
    multiplications of all convolutions and matrix products, ``layers`` the number of these; ``float_layers`` names some
    that compute in float32. ``weight_bytes`` are their weights in the engine's types, ``float_weight_bytes`` in
    float32, ``engine_bytes`` is the size of the engine.
    """

    depth: str
    shares: Mapping[str, float]
    macs: int
    layers: int
    float_layers: tuple[str, ...]
    weight_bytes: int
    float_weight_bytes: int
    engine_bytes: int
    built_layers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> EngineRecord:
        """Return the record of an engine that was built here."""
        return record_from_json(cls, dict(facts), "evidence.engine")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The results of an export; an empty part or None was not measured.

    ``comparison`` holds each file compared with Keras on the evaluation images, ``selection`` with the float model on
    the selection images; ``recipe`` is a quantization recipe in its JSON form.
    """

    parity: tuple[Parity, ...] = ()
    passes: tuple[StepRecord, ...] = ()
    notes: tuple[str, ...] = ()
    calibration: CalibrationRecord | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    ladder: tuple[Rung, ...] = ()
    selection: tuple[ComparisonRecord, ...] = ()
    processors: tuple[ProcessorVerdict, ...] = ()
    domain: DomainRecord | None = None
    fp16: Fp16Record | None = None
    comparison: tuple[ComparisonRecord, ...] = ()
    accuracy: AccuracyRecord | None = None
    engine: EngineRecord | None = None

    @property
    def equalized(self) -> bool:
        """Tell whether the recipe changed the float weights before it quantized them."""
        return self.recipe.get("equalization") is True

    @property
    def scores(self) -> dict[str, ScoreShift]:
        """Return the shift of the scores of each lowered file, on evaluation images or else on selection images."""
        records = [record for record in self.comparison or self.selection if record.candidate != "onnx-fp32"]
        return {record.candidate: record.scores for record in records if record.scores is not None}

    @property
    def fp32_difference(self) -> float | None:
        """Return the largest absolute difference of the float32 graph from Keras; None if it was not measured."""
        return max((parity.max_abs for parity in self.parity if parity.stage == "onnx-fp32"), default=None)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the object for the manifest: every part that was measured, without times."""
        document = json_from_record(self)
        document |= {
            "parity": [parity.to_json() for parity in self.parity],
            "passes": [{"step": record.step, **record.facts} for record in self.passes],
            "notes": list(self.notes),
        }
        if self.ladder:
            document["ladder"] = [
                {
                    "rung": rung.name,
                    "taken": rung.taken,
                    **({"reason": rung.reason} if rung.reason else {}),
                    **json_from_record(rung.comparison),
                }
                for rung in self.ladder
            ]
        return document

    @classmethod
    def from_json(cls, value: JsonValue) -> Evidence:
        """Read a manifest's ``evidence``.

        ``BundleError`` ``manifest-value``: a part has the wrong type, misses a key, or has a number out of range.
        """
        entries = {key: item for key, item in as_object(value, "evidence").items() if item is not None}
        parity, passes, ladder = (typed(entries.pop(name, []), list, name) for name in ("parity", "passes", "ladder"))
        return replace(
            record_from_json(cls, entries, "evidence"),
            parity=tuple(Parity.from_json(item, "evidence.parity") for item in parity),
            passes=tuple(_step_from_json(item, "evidence.passes") for item in passes),
            ladder=tuple(_rung_from_json(item, "evidence.ladder") for item in ladder),
        )


def _step_from_json(value: JsonValue, where: str) -> StepRecord:
    facts = dict(as_object(value, where))
    step = typed(facts.pop("step", None), str, f"{where}.step")
    for name, fact in facts.items():
        if not isinstance(fact, str | int | float):
            raise wrong_value(f"{where}.{name[:80]} must be text, a number, true or false")
    return StepRecord(step, facts)  # type: ignore[arg-type]


def _rung_from_json(value: JsonValue, where: str) -> Rung:
    entries = as_object(value, where)
    name = typed(entries.get("rung"), str, f"{where}.rung")
    taken = typed(entries.get("taken"), bool, f"{where}.taken")
    reason = typed(entries.get("reason", ""), str, f"{where}.reason")
    return Rung(name, taken, record_from_json(ComparisonRecord, entries, where), reason=reason)
