"""Parity, accuracy and statistics: measure, then judge."""

from xxdeploy.verify.accuracy import evaluate
from xxdeploy.verify.comparison import Comparison, Reference, compare_with, judge_paired, record_reference
from xxdeploy.verify.parity import (
    EXACT_FEATURES,
    EXACT_PROBABILITIES,
    FP16_FEATURES,
    FP16_PROBABILITIES,
    FP16_SCORES,
    INT8_FEATURES,
    INT8_PROBABILITIES,
    INT8_SCORES,
    Tolerance,
    check,
    compare,
)
from xxdeploy.verify.promise import (
    Verdict,
    agreement_verdict,
    check_max_drop,
    check_min_agreement,
    drop_verdict,
)
from xxdeploy.verify.statistics import (
    Interval,
    PairedChange,
    images_needed,
    mcnemar_exact,
    paired_difference_interval,
    wilson_interval,
)

__all__ = [
    "EXACT_FEATURES",
    "EXACT_PROBABILITIES",
    "FP16_FEATURES",
    "FP16_PROBABILITIES",
    "FP16_SCORES",
    "INT8_FEATURES",
    "INT8_PROBABILITIES",
    "INT8_SCORES",
    "Comparison",
    "Interval",
    "PairedChange",
    "Reference",
    "Tolerance",
    "Verdict",
    "agreement_verdict",
    "check",
    "check_max_drop",
    "check_min_agreement",
    "compare",
    "compare_with",
    "drop_verdict",
    "evaluate",
    "images_needed",
    "judge_paired",
    "mcnemar_exact",
    "paired_difference_interval",
    "record_reference",
    "wilson_interval",
]
