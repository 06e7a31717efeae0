"""Parity, accuracy and statistics: measure, then judge."""

from xxdeploy.verify.accuracy import evaluate
from xxdeploy.verify.judge import check_drop
from xxdeploy.verify.parity import (
    EXACT_FEATURES,
    EXACT_PROBABILITIES,
    INT8_FEATURES,
    INT8_PROBABILITIES,
    Tolerance,
    check,
    compare,
)
from xxdeploy.verify.statistics import (
    Interval,
    PairedChange,
    agreement_interval,
    images_needed,
    mcnemar_exact,
    paired_change,
    paired_difference_interval,
    wilson_interval,
)

__all__ = [
    "EXACT_FEATURES",
    "EXACT_PROBABILITIES",
    "INT8_FEATURES",
    "INT8_PROBABILITIES",
    "Interval",
    "PairedChange",
    "Tolerance",
    "agreement_interval",
    "check",
    "check_drop",
    "compare",
    "evaluate",
    "images_needed",
    "mcnemar_exact",
    "paired_change",
    "paired_difference_interval",
    "wilson_interval",
]
