"""A comparison as reproducible facts for a manifest, and as a sentence for people."""

from __future__ import annotations

from typing import Any

from xxdeploy.verify.comparison import Comparison
from xxdeploy.verify.statistics import Interval


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """Return JSON values: counts as they are, shares (0..1) and measures rounded to what can be reproduced.

    What was not measured is left out. ``interval`` stands beside each share, ``[low, high]`` at 95 %.
    """
    facts: dict[str, Any] = {
        "reference": comparison.reference,
        "candidate": comparison.candidate,
        "images": comparison.images,
        "sqnr_db": None if comparison.sqnr_db is None else round(comparison.sqnr_db, 1),
        "cosine": round(comparison.cosine, 4),
    }
    if comparison.agreement is not None and comparison.agreement_interval is not None:
        facts["agreement"] = round(comparison.agreement, 4)
        facts["agreement_interval"] = _pair(comparison.agreement_interval)
    if comparison.kl_mean is not None:
        facts["kl_nats"] = float(f"{comparison.kl_mean:.3g}")
    if comparison.top1 is not None and (change := comparison.change) is not None:
        facts["top1"] = [round(share, 4) for share in comparison.top1]
        facts["change"] = round(change.change, 4)
        facts["change_interval"] = _pair(change.interval)
        facts["gained"], facts["lost"] = change.gained, change.lost
        facts["mcnemar_p"] = float(f"{change.p_value:.3g}")
    return facts


def comparison_sentence(comparison: Comparison) -> str:
    """Write what was measured on one line, in percent, with 95 % intervals."""
    parts = []
    if comparison.top1 is not None and (change := comparison.change) is not None:
        before, after = (100 * share for share in comparison.top1)
        low, high = 100 * change.interval.low, 100 * change.interval.high
        parts.append(
            f"top-1 {before:.1f} -> {after:.1f} ({_signed(100 * change.change)} points, "
            f"95 % {_signed(low)}..{_signed(high)}, McNemar p {_probability(change.p_value)})"
        )
    if comparison.agreement is not None and (interval := comparison.agreement_interval) is not None:
        parts.append(
            f"same class on {100 * comparison.agreement:.1f} % ({100 * interval.low:.1f}..{100 * interval.high:.1f})"
        )
    if comparison.kl_mean is not None:
        parts.append(f"KL {comparison.kl_mean:.2g}" if comparison.kl_mean < 0.001 else f"KL {comparison.kl_mean:.3f}")
    if comparison.agreement is None:
        sqnr = "no signal" if comparison.sqnr_db is None else f"SQNR {comparison.sqnr_db:.1f} dB"
        parts.append(f"{sqnr}, lowest cosine {comparison.cosine:.4f}")
    return f"{', '.join(parts)} ({comparison.images} image{'s' if comparison.images != 1 else ''})"


def _pair(interval: Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]


def _signed(value: float) -> str:
    """Write points with a sign; nothing is +0.0."""
    return f"{round(value, 1) + 0.0:+.1f}"


def _probability(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.01 else f"{value:.2f}"
