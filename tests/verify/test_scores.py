from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions
from xxdeploy.results import ScoreShift
from xxdeploy.verify import judge_paired
from xxdeploy.verify.scores import ScoreTally, calibration_error, matching_threshold

Floats = NDArray[np.float32]
SCORES = st.lists(
    st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.integers(0, 20).map(lambda n: n / 20)), min_size=1
)


def shift_of(before: Floats, after: Floats, labels: list[int] | None = None) -> ScoreShift | None:
    return judge_paired(before, after, labels).scores


def two_classes(scores: Floats) -> Floats:
    return np.stack([1 - scores, scores], axis=1).astype(np.float32)


def test_the_shift_is_that_of_each_models_best_class() -> None:
    before = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]], np.float32)
    after = np.array([[0.8, 0.1, 0.1], [0.2, 0.3, 0.5]], np.float32)  # the second image changes class, not its score
    shift = shift_of(before, after)
    assert shift == ScoreShift(-0.05, -0.095, -0.005)


def test_five_of_a_hundred_images_lie_beyond_each_percentile() -> None:
    before = np.full((101, 2), 0.5, np.float32)
    after = two_classes(np.linspace(0.5, 0.7, 101).astype(np.float32))
    shift = shift_of(before, after)
    assert shift is not None
    assert (shift.mean, shift.p5, shift.p95) == (0.1, 0.01, 0.19)


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.9, 0.91, 0.5, 0.3], np.float32)
    right = np.array([True, False, True, False])
    # In the bin 13/15..14/15: half are right, the mean score is 0.905. The others are alone in theirs.
    expected = (2 * abs(0.5 - 0.905) + abs(1 - 0.5) + abs(0 - 0.3)) / 4
    assert calibration_error(scores, right) == pytest.approx(expected, abs=1e-6)


def test_the_bins_are_closed_above_and_hold_both_ends() -> None:
    edge = np.array([1 / 15, 1 / 15 + 1e-9], np.float64)
    # In one bin the two errors would cancel.
    assert calibration_error(edge, np.array([False, True])) == pytest.approx((1 / 15 + 14 / 15) / 2)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0


@given(SCORES)
def test_calibration_error_against_a_slow_count(pairs: list[tuple[float, float]]) -> None:
    scores, right = np.array([score for score, _ in pairs]), np.array([chance > 0.5 for _, chance in pairs])
    expected = 0.0
    for m in range(1, 16):
        inside = [i for i, score in enumerate(scores) if (m - 1) / 15 < score <= m / 15 or (m == 1 and score == 0)]
        if inside:
            accuracy, confidence = np.mean(right[inside]), np.mean(scores[inside])
            expected += len(inside) / len(scores) * abs(accuracy - confidence)
    assert calibration_error(scores, right) == pytest.approx(expected)


@given(SCORES)
def test_no_threshold_is_better(pairs: list[tuple[float, float]]) -> None:
    before, after = (np.array(column, np.float32) for column in zip(*pairs, strict=True))
    best = matching_threshold(before, after)

    def differing(threshold: float) -> int:
        return sum((a > 0.5) != (b > threshold) for a, b in zip(before, after, strict=True))

    assert best.unchanged == differing(0.5)
    assert best.differing == differing(best.candidate) <= best.unchanged
    assert best.differing == min(differing(cut) for cut in (0.5, *np.linspace(0, 1, 161)))
    if best.candidate != 0.5:
        assert best.differing < best.unchanged


def test_a_shifted_sigmoid_gets_its_threshold_back() -> None:
    logits = np.random.default_rng(0).normal(0, 2, 500)
    before, after = (1 / (1 + np.exp(-(logits + bias))) for bias in (0.0, -0.4))
    shift = shift_of(two_classes(before.astype(np.float32)), two_classes(after.astype(np.float32)))
    assert shift is not None
    assert shift.threshold is not None
    assert shift.threshold.unchanged == int(np.count_nonzero((before > 0.5) != (after > 0.5))) > 20
    assert shift.threshold.differing == 0
    assert shift.threshold.candidate == pytest.approx(1 / (1 + np.exp(0.4)), abs=0.005)


def test_another_threshold_of_the_reference() -> None:
    before, after = np.array([0.2, 0.75, 0.85]), np.array([0.1, 0.7, 0.78])
    found = matching_threshold(before, after, threshold=0.8)
    assert (found.reference, found.unchanged, found.differing) == (0.8, 1, 0)
    assert found.candidate == pytest.approx(0.74)


def test_the_threshold_that_is_asked_for_and_more_classes() -> None:
    """Of more than two classes it applies to the top-1 score, and only if it is asked for."""
    before = np.array([[0.7, 0.3, 0.0], [0.85, 0.1, 0.05]], np.float32)
    after = np.array([[0.6, 0.4, 0.0], [0.2, 0.75, 0.05]], np.float32)
    plain, asked = (judge_paired(before, after, threshold=threshold).scores for threshold in (None, 0.8))
    assert plain is not None
    assert asked is not None
    assert plain.threshold is None
    assert asked.threshold is not None
    assert (asked.threshold.reference, asked.threshold.unchanged, asked.threshold.differing) == (0.8, 1, 0)
    assert asked.threshold.candidate == pytest.approx(0.675)
    two = judge_paired(before[:, :2], after[:, :2], threshold=0.2).scores
    assert two is not None
    assert two.threshold == matching_threshold(before[:, 1], after[:, 1], 0.2)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0, 50.0, float("nan")])
def test_a_threshold_that_is_no_score(threshold: float) -> None:
    with pytest.raises(UsageError) as caught:
        ExportOptions.of("int8", threshold=threshold)
    assert caught.value.code == "threshold"


def test_one_sigmoid_has_the_same_threshold_as_two_classes() -> None:
    before, after = (np.array([[0.2], [0.52], [0.9]], np.float32), np.array([[0.1], [0.4], [0.8]], np.float32))
    tally = ScoreTally()
    tally.add(before, after, None)
    alone, both = tally.shift(), shift_of(two_classes(before[:, 0]), two_classes(after[:, 0]))
    assert alone is not None
    assert both is not None
    assert alone.threshold is not None
    assert both.threshold is not None
    assert alone.threshold.candidate == pytest.approx(both.threshold.candidate)
    assert (alone.threshold.unchanged, alone.threshold.differing) == (1, 0)


def test_batches_are_as_good_as_the_whole() -> None:
    rng = np.random.default_rng(1)
    before, after = (two_classes(rng.random(20).astype(np.float32)) for _ in range(2))
    truth = rng.integers(0, 2, 20)
    whole, parts = ScoreTally(), ScoreTally()
    whole.add(before, after, truth)
    for start in range(0, 20, 7):
        parts.add(before[start : start + 7], after[start : start + 7], truth[start : start + 7])
    assert whole.shift() == parts.shift() is not None


@pytest.mark.parametrize("value", [-0.5, 1.5])
def test_what_is_no_score_has_no_shift(value: float) -> None:
    before = np.array([[0.5, 0.5], [value, 0.5]], np.float32)
    assert shift_of(before, before) is None
    assert judge_paired(before, before, classes=False).scores is None


def test_labels_give_the_calibration_of_both_and_three_classes_no_threshold() -> None:
    before = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    after = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], np.float32)
    shift = shift_of(before, after, [0, 1])
    assert shift is not None
    assert shift.calibration_error == (0.5, 0.0)
    assert shift.threshold is None
