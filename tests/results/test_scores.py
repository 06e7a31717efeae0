from __future__ import annotations

import pytest

from xxdeploy.results import MatchingThreshold, ScoreShift


def test_the_sentence() -> None:
    assert ScoreShift(-0.012, -0.08, 0.031).sentence == (
        "top-1 score -1.2 points on average, -8.0..+3.1 for 90 % of the images"
    )
    whole = ScoreShift(0.0, -0.0, 0.01, (0.041, 0.046), MatchingThreshold(0.5, 0.43219, 1, 9))
    assert whole.sentence == (
        "top-1 score +0.0 points on average, +0.0..+1.0 for 90 % of the images, "
        "expected calibration error 4.1 -> 4.6 %, "
        "threshold 0.4322 decides most like 0.5 in float: 1 image differs (9 at 0.5)"
    )


def test_a_threshold_that_may_stay() -> None:
    shift = ScoreShift(0.0, -0.1, 0.1, threshold=MatchingThreshold(0.5, 0.5, 2, 2))
    assert shift.sentence.endswith("for 90 % of the images, no threshold is better than 0.5: 2 images differ")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScoreShift(0.0, 0.2, 0.1),
        lambda: ScoreShift(2.0, 0.0, 0.1),
        lambda: ScoreShift(0.0, -0.1, 0.1, (0.1, 1.1)),
        lambda: MatchingThreshold(0.5, 1.2, 0, 0),
        lambda: MatchingThreshold(0.5, 0.5, 2, 1),
    ],
)
def test_impossible_figures_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"must be|cannot be"):
        make()  # type: ignore[operator]
