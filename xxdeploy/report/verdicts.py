"""What a reader wants to know first: is it the same, how much is lost, is it smaller and faster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from xxdeploy.report import format as write
from xxdeploy.report.measured import Measured
from xxdeploy.runtime.bundle.manifest import Manifest

GOOD, CARE = "good", "care"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` is ``good`` or ``care``; ``title`` two or three words; ``said`` the figure; ``more`` what it means."""

    state: str
    title: str
    said: str
    more: str


def verdicts(manifest: Manifest, seen: Measured) -> list[Verdict]:
    """Return them in the order in which they are asked."""
    return [*_parity(manifest), *_accuracy(manifest), *_size(seen), *_speed(seen), *_engine(manifest)]


def _parity(manifest: Manifest) -> Iterator[Verdict]:
    evidence: Mapping[str, Any] = manifest.evidence
    exact = [each["max_abs"] for each in evidence.get("parity") or () if "fp32" in each["candidate"]]
    if exact:
        yield Verdict(
            GOOD, "Same network", write.small(max(exact)), "largest difference of the float32 graph from Keras"
        )


def _accuracy(manifest: Manifest) -> Iterator[Verdict]:
    evidence: Mapping[str, Any] = manifest.evidence
    found = list(evidence.get("comparison") or evidence.get("selection") or ())
    if not found:
        if manifest.variants[0].precision != "fp32":
            yield Verdict(CARE, "Accuracy", "not measured", "no evaluation images were given")
        return
    facts = found[1] if len(found) > 1 and "fp32" in found[0]["candidate"] else found[0]
    if "top1" in facts:
        low, high = facts["change_interval"]
        yield Verdict(
            CARE if high < 0 else GOOD,
            "Top-1",
            f"{write.percent(facts['top1'][0])} → {write.percent(facts['top1'][1])}",
            f"{write.points(facts['change'])} points (95 %: {write.points(low)} to {write.points(high)}), "
            f"{facts['images']} images",
        )
    if "agreement" in facts:
        low, high = facts["agreement_interval"]
        yield Verdict(
            CARE if facts["agreement"] < 0.95 else GOOD,
            "Agreement",
            f"{write.percent(facts['agreement'])} %",
            f"of images keep the class of {facts['reference']} (95 %: {write.percent(low)} to {write.percent(high)})",
        )
    elif facts.get("sqnr_db") is not None:
        said = "signal to noise of the features"
        yield Verdict(CARE if facts["sqnr_db"] < 20 else GOOD, "Features", write.decibel(facts["sqnr_db"]), said)


def _size(seen: Measured) -> Iterator[Verdict]:
    sizes = [each.size_bytes for each in seen.timings if each.size_bytes]
    if len(sizes) > 1:
        ours = sizes[2] if len(sizes) > 2 else sizes[1]
        more = f"{sizes[0] / ours:.1f} times smaller than the float32 weights"
        yield Verdict(GOOD, "Size", write.megabytes(ours), more if ours < sizes[0] else "as large as the weights")


def _speed(seen: Measured) -> Iterator[Verdict]:
    times = {each.runner: median(each.milliseconds) for each in seen.timings}
    floats = times.get("onnx-fp32")
    ours = next((time for name, time in times.items() if name not in ("keras", "onnx-fp32")), None)
    if floats and ours:
        faster = ours < floats
        yield Verdict(
            GOOD if faster else CARE,
            "Time",
            write.milliseconds(ours),
            f"{write.ratio(ours / floats)} of float32 in the same run, on the machine of the export"
            + ("" if faster else ": it is not faster there"),
        )
    elif floats and "keras" in times:
        more = f"{write.ratio(floats / times['keras'])} of Keras in the same run, on the machine of the export"
        yield Verdict(GOOD if floats < times["keras"] else CARE, "Time", write.milliseconds(floats), more)


def _engine(manifest: Manifest) -> Iterator[Verdict]:
    evidence: Mapping[str, Any] = manifest.evidence
    engine = evidence.get("engine")
    if engine:
        precision = manifest.variants[0].precision
        depth = "the built layers were looked at" if engine["depth"] == "engine" else "of the network as it was parsed"
        share = write.percent(engine["shares"].get(precision))
        yield Verdict(GOOD, "Engine", f"{share} % {precision}", f"of all multiplications, {depth}")
