from __future__ import annotations

import pytest

from xxdeploy.artifacts import Accuracy
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.verify import check_drop


def run(right: int | None, images: int = 677) -> Accuracy:
    share = None if right is None else right / images
    return Accuracy("r", share, share, (0,) * images)


def test_the_message() -> None:
    with pytest.raises(VerificationError) as caught:
        check_drop(run(538), run(522), 1.0)
    assert caught.value.exit_status == 6
    assert caught.value.render() == (
        "error[accuracy-drop]: top-1 fell 2.4 points (79.5 -> 77.1, 677 images), more than --max-drop 1.0\n"
        " hint: try more --samples, or --method minmax, or --max-drop 2.4 to accept it"
    )


@pytest.mark.parametrize(
    ("before", "after", "images", "max_drop", "holds"),
    [
        (80, 79, 100, 1.0, True),  # 0.8 - 0.79 > 0.01 in binary
        (80, 79, 100, 0.99, False),
        (80, 80, 100, 0.0, True),
        (80, 79, 100, 0.0, False),
        (80, 95, 100, 0.0, True),
        (1, 0, 3, 33.4, True),
        (1, 0, 3, 33.3, False),
    ],
)
def test_the_limit_is_inclusive(before: int, after: int, images: int, max_drop: float, holds: bool) -> None:
    if holds:
        check_drop(run(before, images), run(after, images), max_drop)
    else:
        with pytest.raises(VerificationError):
            check_drop(run(before, images), run(after, images), max_drop)


def test_a_drop_just_over_the_limit_is_shown_with_more_digits() -> None:
    with pytest.raises(VerificationError, match=r"fell 1\.03 points .* more than --max-drop 1\.0") as caught:
        check_drop(run(600), run(593), 1.0)
    accepted = float(caught.value.hint.rsplit("--max-drop ", 1)[1].split()[0])
    check_drop(run(600), run(593), accepted)  # what the hint offers is enough


@pytest.mark.parametrize("max_drop", [-0.1, float("nan"), float("inf")])
def test_limits_that_are_none(max_drop: float) -> None:
    with pytest.raises(UsageError) as caught:
        check_drop(run(2), run(1), max_drop)
    assert caught.value.code == "max-drop"


def test_unlabelled_images() -> None:
    with pytest.raises(UsageError) as caught:
        check_drop(run(None), run(None), 1.0)
    assert caught.value.code == "no-labels"


def test_other_images() -> None:
    with pytest.raises(ValueError, match="not the same set"):
        check_drop(run(1, 2), run(1, 3), 1.0)
