"""From a manifest, and what an export measured, to one HTML page.

The page holds no script and asks for nothing over the network: its Content-Security-Policy says so to the browser.
Everything in it is escaped, since names of layers, classes and files are other people's text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from xxdeploy.report import format as write
from xxdeploy.report.measured import Measured
from xxdeploy.report.plots import bars, interval, strips
from xxdeploy.report.template import environment
from xxdeploy.report.verdicts import verdicts
from xxdeploy.results import LayerNoise
from xxdeploy.runtime.bundle.manifest import Manifest

REPORT = "report.html"
"""What the page is called in a bundle."""
_WORST = 24
_STEPS, _SHORTEST = 14, 0.05
"""Steps that are shown, at most, and the seconds from which on one is worth a row."""


def render_report(manifest: Manifest, noise: Sequence[LayerNoise] = (), measured: Measured | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    manifest
        Of the bundle; its list of files may be empty still.
    noise
        What quantization does to each layer, the worst first.
    measured
        None where a report is made again from a bundle: then it has no times and no pictures.
    """
    seen = measured or Measured()
    evidence: Mapping[str, Any] = manifest.evidence
    return (
        environment()
        .get_template("report.html")
        .render(
            manifest=manifest,
            evidence=evidence,
            seen=seen,
            verdicts=verdicts(manifest, seen),
            stages=_stages(evidence, seen),
            steps=bars([(name, took, write.seconds(took)) for name, took in _longest(seen.steps)]),
            parities=_parities(evidence),
            comparisons=[_comparison(each) for each in evidence.get("comparison") or ()],
            rungs=[asdict(rung) for rung in seen.rungs] or _rungs(evidence),
            layers=bars([(each.layer, _loss(each), write.decibel(each.sqnr_db)) for each in noise[:_WORST]]),
            noise=noise,
            strips=strips([(each.runner, each.milliseconds) for each in seen.timings]),
            recipe=json.dumps(evidence.get("recipe"), indent=2) if evidence.get("recipe") else "",
            source=json.dumps(dict(manifest.source), indent=2, sort_keys=True),
        )
    )


def _stages(evidence: Mapping[str, Any], seen: Measured) -> list[dict[str, Any]]:
    """Return the way from Keras to the files: size, median time, top-1 and agreement of each."""
    found = {each["runner"]: each for each in (evidence.get("accuracy") or {}).get("runners", ())}
    timings = {each.runner: each for each in seen.timings}
    names = dict.fromkeys((*timings, *found)) or dict.fromkeys(
        ("keras", *(row["stage"] for row in _parities(evidence)))
    )
    return [
        {
            "name": name,
            "size": timings[name].size_bytes if name in timings else None,
            "p50": median(timings[name].milliseconds) if name in timings else None,
            "top1": found.get(name, {}).get("top1"),
            "agreement": found.get(name, {}).get("agreement"),
        }
        for name in names
    ]


def _longest(steps: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return the steps that took longest, in their order."""
    timed = [each for each in steps if each[1] >= _SHORTEST]
    least = sorted((took for _, took in timed), reverse=True)[:_STEPS][-1:] or [0.0]
    return [each for each in timed if each[1] >= least[0]]


def _parities(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each stage: of ONNX Runtime's optimizations off and on, the worse."""
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for each in evidence.get("parity") or ():
        stages.setdefault(each["candidate"].partition(", ")[0], []).append(each)
    return [
        {
            "stage": name,
            "images": found[0]["images"],
            "max_abs": max(each["max_abs"] for each in found),
            "cosine": min(each["cosine"] for each in found),
            "agreement": min(each["agreement"] for each in found),
        }
        for name, found in stages.items()
    ]


def _comparison(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the facts of a comparison where its intervals lie on a scale."""
    agreement, change = facts.get("agreement_interval"), facts.get("change_interval")
    return {
        **dict.fromkeys(("agreement", "kl_nats", "top1", "change", "gained", "lost", "mcnemar_p", "sqnr_db")),
        **facts,
        "agreement_bar": None if agreement is None else interval(agreement, facts["agreement"], 0.9, 1.0),
        "change_bar": None if change is None else interval(change, facts["change"], -0.03, 0.03),
        "agreement_interval": agreement,
        "change_interval": change,
    }


def _rungs(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ladder as a manifest has it: without times."""
    return [
        {
            "name": each["rung"],
            "taken": each["taken"],
            "agreement": each.get("agreement"),
            "drop": None if each.get("change") is None else -each["change"],
            "kl_nats": each.get("kl_nats"),
            "sqnr_db": each.get("sqnr_db"),
            "of_float": None,
            "seconds": None,
        }
        for each in evidence.get("ladder") or ()
    ]


def _loss(layer: LayerNoise) -> float:
    """Return how long a layer's bar is: what it loses, as a share of its signal's amplitude."""
    return 0.0 if layer.sqnr_db is None else float(10 ** (-layer.sqnr_db / 20))
