"""Parity, accuracy and statistics: measure, then judge."""

from xxdeploy.verify.comparison import Comparison, compare_with, evaluate, judge_paired, record_reference
from xxdeploy.verify.parity import (
    EXACT_FEATURES,
    EXACT_PROBABILITIES,
    FP16_FEATURES,
    FP16_OUTPUTS,
    FP16_PROBABILITIES,
    FP16_SCORES,
    INT8_FEATURES,
    INT8_OUTPUTS,
    INT8_PROBABILITIES,
    INT8_SCORES,
    Rounding,
    Tolerance,
    check,
    check_errors,
    check_independence,
    compare,
    rounding_of,
)
from xxdeploy.verify.promise import FIGURE_PROMISES, Verdict, agreement_verdict, drop_verdict, figure_verdict
from xxdeploy.verify.statistics import mcnemar_exact, paired_difference_interval, wilson_interval
from xxdeploy.verify.strings import evaluate_texts

__all__ = [
    "EXACT_FEATURES",
    "EXACT_PROBABILITIES",
    "FIGURE_PROMISES",
    "FP16_FEATURES",
    "FP16_OUTPUTS",
    "FP16_PROBABILITIES",
    "FP16_SCORES",
    "INT8_FEATURES",
    "INT8_OUTPUTS",
    "INT8_PROBABILITIES",
    "INT8_SCORES",
    "Comparison",
    "Rounding",
    "Tolerance",
    "Verdict",
    "agreement_verdict",
    "check",
    "check_errors",
    "check_independence",
    "compare",
    "compare_with",
    "drop_verdict",
    "evaluate",
    "evaluate_texts",
    "figure_verdict",
    "judge_paired",
    "mcnemar_exact",
    "paired_difference_interval",
    "record_reference",
    "rounding_of",
    "wilson_interval",
]
