"""Result cards: the reproducible facts of one bundle, small enough to review, and the comparison of two cards.

A card has no times, dates or names of machines, so it changes only when the result does. Parity depends on the order in
which a processor adds, so it is rounded up to a bound; all other facts are the same wherever the same versions run.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from xxdeploy.batch.jobs import Job
from xxdeploy.errors import UsageError
from xxdeploy.exporter.source import is_model_file
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.wire import split
from xxdeploy.results import KINDS, Evidence, worst_parities
from xxdeploy.runtime.bundle.manifest import MANIFEST

Card = dict[str, Any]

PARITY_SLACK = 4.0
"""The largest difference may be this many times the card's: another processor adds in another order."""
PARITY_FLOOR = {"fp32": 1e-5, "fp16": 1e-3, "int8": 0.0}
"""Largest difference that is always allowed; for FP32, the tolerance of every stage."""
SHARE_SLACK = {"fp32": 0.002, "fp16": 0.005, "int8": 0.01}
"""Top-1, top-5 and agreement may differ by this: another processor may give an image or two another class."""
FIGURE_SLACK = 0.05
"""A figure of pictures, masks or values may be worse by this share of it. A better one is no difference."""
SIZE_SLACK = 0.001
"""Relative difference of file sizes: tools write names and versions into a file."""


def card_from_bundle(job: Job, bundle: Path) -> Card:
    """Return the card of a bundle that was just written; its hashes are not checked again.

    For each variant, ``nodes``, ``quantize``, ``dequantize`` and ``transposes`` count operators, and ``bytes`` is the
    size of its model file; ``parity`` is the worse of ONNX Runtime's optimizations off and on. ``accuracy`` and
    ``scores`` (:class:`xxdeploy.results.ScoreShift`) need trained weights and labeled images.
    """
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    source, evidence = manifest["source"], Evidence.from_json(manifest["evidence"])
    weights = source.get("weights", "its own")  # a model file has its own weights, and no options
    sizes = {entry["path"]: entry["size"] for entry in manifest["files"]}
    variants = {}
    for variant in manifest["variants"]:
        operators = _operators(bundle / variant["model"])
        variants[variant["name"]] = {
            "nodes": operators.total(),
            "quantize": operators["QuantizeLinear"],
            "dequantize": operators["DequantizeLinear"],
            "transposes": operators["Transpose"],
            "bytes": sizes[variant["model"]],
            "scheme": variant["scheme"],
        }
    card: Card = {
        "network": Path(job.model).name if is_model_file(job.model) else find(job.model).name,
        "precision": job.precision,
        "weights": weights,
        "options": {key: value for key, value in source.get("options", {}).items() if value is not None},
        "task": manifest["task"],
        "variants": variants,
        "parity": _parity(evidence),
    }
    if not is_model_file(job.model) and _is_whole(card["options"], job):
        card["parameters"] = find(job.model).parameters
    if job.precision == "int8":
        card["calibration"] = None if evidence.calibration is None else asdict(evidence.calibration)
        card["recipe"] = dict(evidence.recipe) or None
    if figures := _figures(evidence):
        card["figures"] = figures
    if weights != "none" and (accuracy := evidence.accuracy) is not None:
        card["accuracy"] = {"images": accuracy.images, "data_sha256": accuracy.data_sha256}
        for row in accuracy.runners:
            shares = {"top1": row.top1, "top5": row.top5, "agreement": row.agreement}
            card["accuracy"][row.runner] = {
                key: None if share is None else round(share, 4) for key, share in shares.items()
            }
        if scores := _scores(evidence):
            card["scores"] = scores
    return card


def _figures(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Return the figures of pictures, masks and values of each lowered file; those of float32 are in its parity."""
    records = [record for record in evidence.comparison if record.figures and record.candidate != "onnx-fp32"]
    return {record.candidate: {figure.name: figure.value for figure in record.figures} for record in records}


def _scores(evidence: Evidence) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    for name, shift in evidence.scores.items():
        facts = {"mean": shift.mean, "p5": shift.p5, "p95": shift.p95}
        if shift.calibration_error is not None:
            facts |= dict(zip(("calibration_error_before", "calibration_error"), shift.calibration_error, strict=True))
        if shift.threshold is not None:
            facts["threshold"] = round(shift.threshold.candidate, 4)
        scores[name] = facts
    return scores


def text_from_card(card: Card) -> str:
    """Write a card: sorted, indented, with a final line break, so that a review shows what changed."""
    return json.dumps(card, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_card(path: Path) -> Card:
    """Read a card. ``UsageError`` ``bad-card``: the file cannot be read, or is not a card."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict) or not {"network", "precision", "variants", "parity"} <= set(card):
            raise ValueError("keys are missing")
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the result card {path} cannot be read: {error}",
            hint="make it again with `xxdeploy export`, see exports/results/README.md",
            code="bad-card",
        ) from error
    return card


def card_differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> tuple[str, ...]:
    """Return sentences about the differences of a new card from the expected one, beyond the tolerances above.

    Parity counts only if it is worse.
    """
    keys = ("network", "precision", "weights", "options", "task", "parameters", "recipe")
    problems = [_says(key, actual.get(key), expected.get(key)) for key in keys if expected.get(key) != actual.get(key)]
    problems += _compare_variants(expected["variants"], actual["variants"])
    for stage, bound in expected["parity"].items():
        now = actual["parity"].get(stage)
        if now is None:
            problems.append(f"parity of {stage} is missing")
            continue
        precision = next((name for name in ("int8", "fp16") if name in stage), "fp32")
        most = max(PARITY_SLACK * bound["max_abs"], PARITY_FLOOR[precision])
        if now["max_abs"] > most:
            problems.append(f"{stage}: largest difference {now['max_abs']:.1e}, at most {most:.1e} by the card")
    slack = SHARE_SLACK.get(str(expected["precision"]), 0.01)
    before, after = expected.get("accuracy") or {}, actual.get("accuracy") or {}
    old, new = ({key for key, value in part.items() if isinstance(value, dict)} for part in (before, after))
    if old != new:
        problems.append(f"accuracy is of {sorted(after)}, the card has {sorted(before)}")
    for key in set(before) & set(after):
        if key not in old and before[key] != after[key]:
            problems.append(_says(f"accuracy: {key}", after[key], before[key]))
        for share, value in before[key].items() if key in old else ():
            if abs(after[key][share] - value) > slack:
                problems.append(_says(f"{key}: {share}", after[key][share], value))
    for name, facts in (expected.get("scores") or {}).items():  # a card from before scores has none
        now_facts = (actual.get("scores") or {}).get(name, {})
        for fact, value in facts.items():
            if fact not in now_facts or abs(now_facts[fact] - value) > slack:
                problems.append(_says(f"scores of {name}: {fact}", now_facts.get(fact), value))
    for name, facts in (expected.get("figures") or {}).items():
        now_facts = (actual.get("figures") or {}).get(name, {})
        for fact, value in facts.items():
            now = now_facts.get(fact)
            if now is None or (value - now if KINDS[fact].rises else now - value) > FIGURE_SLACK * abs(value):
                problems.append(_says(f"{name}: {fact}", now, value))
    return tuple(problems)


def _says(name: str, now: object, expected: object) -> str:
    return f"{name} is {now!r}, the card says {expected!r}"


def _compare_variants(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    if set(expected) != set(actual):
        return [f"variants are {sorted(actual)}, the card says {sorted(expected)}"]

    def is_same(key: str, now: Any, value: Any) -> bool:
        near = key == "bytes" and isinstance(now, int)
        return bool(abs(now - value) <= SIZE_SLACK * value if near else now == value)

    return [
        _says(f"{name}: {key}", actual[name].get(key), value)
        for name, facts in expected.items()
        for key, value in facts.items()
        if not is_same(key, actual[name].get(key), value)
    ]


def _parity(evidence: Evidence) -> dict[str, dict[str, float]]:
    return {
        title: {"max_abs": rounded_up(worst.max_abs), "max_rel": rounded_up(worst.max_rel), "images": worst.images}
        for title, worst in worst_parities(evidence.parity).items()
    }


def rounded_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50 ... times a power of ten, 0 for 0."""
    if value <= 0:
        return 0.0
    exponent = math.floor(math.log10(value))
    bounds = (float(f"{step}e{exponent}") for step in (1, 2, 5, 10, 20))
    return next(bound for bound in bounds if value <= bound)


def _is_whole(options: Mapping[str, Any], job: Job) -> bool:
    """Return whether the catalog's number of parameters is that of this network."""
    spec = find(job.model)
    return (
        options.get("alpha") in (None, 1.0)
        and options.get("classes") in (None, spec.classes)
        and options.get("include_top", True)
    )


def _operators(path: Path) -> Counter[str]:
    """Count operators without reading the weights."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        proto, arrays = split(cast("bytes", view))
        arrays.clear()  # they look into the file, which could not be closed
        return Counter(node.op_type for node in proto.graph.node)
