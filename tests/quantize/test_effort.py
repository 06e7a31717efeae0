"""The estimate of a rung, and whether it is climbed."""

from __future__ import annotations

import pytest

from xxdeploy.exporter.ladder import RUNGS
from xxdeploy.quantize.effort import GAINS, Effort, Estimate, duration, estimate, is_worth, passed_over


def test_every_rung_has_an_expected_gain() -> None:
    assert set(GAINS) == set(RUNGS)
    assert all(0 < gain < 1 for gain in GAINS.values())


def test_disagreement_falls_with_the_root_of_the_divergence() -> None:
    expected = estimate("rounding", 206 / 256, 256, 40.2)
    left = (1 - GAINS["rounding"]) ** 0.5
    assert expected.images == pytest.approx(50 * (1 - left))
    assert expected.gain == pytest.approx(50 / 256 * (1 - left))
    assert str(expected) == f"about 40 s, expected gain {5000 / 256 * (1 - left):.1f} points of agreement"
    assert estimate("rounding", 1.0, 256, 1.0).images == 0


def test_features_have_no_classes_to_gain() -> None:
    expected = estimate("rounding", None, 256, 200.0)
    assert str(expected) == "about 3 min, expected gain less noise"
    assert is_worth("normal", expected, is_broken=False)


@pytest.mark.parametrize(
    ("effort", "images", "broken", "worth"),
    [
        ("quick", 9.0, False, False),
        ("quick", 0.1, True, True),
        ("normal", 0.9, False, False),
        ("normal", 1.1, False, True),
        ("normal", 0.1, True, True),
        ("thorough", 0.1, False, True),
    ],
)
def test_a_gain_below_one_image_is_worth_it_for_a_promise_or_if_asked(
    effort: Effort, images: float, broken: bool, worth: bool
) -> None:
    assert is_worth(effort, Estimate("rounding", 1.0, images / 256, images), is_broken=broken) is worth


def test_what_was_passed_over_is_told_once() -> None:
    assert passed_over("normal", []) == ()
    (sentence,) = passed_over("quick", [estimate(rung, 206 / 256, 256, 40.2) for rung in ("rounding", "equalization")])
    assert sentence.startswith("not tried, since --effort quick is given (--effort thorough tries them): rounding: ")
    assert sentence.count("points of agreement") == 2


def test_durations_are_for_people() -> None:
    assert [duration(seconds) for seconds in (0.1, 40.4, 89, 91, 600)] == ["1 s", "40 s", "89 s", "2 min", "10 min"]
