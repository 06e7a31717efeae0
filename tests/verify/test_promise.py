from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.errors import UsageError
from xxdeploy.verify import (
    Comparison,
    agreement_verdict,
    drop_verdict,
    judge_paired,
    paired_difference_interval,
    wilson_interval,
)
from xxdeploy.verify.statistics import change_from_counts, images_needed_for_share


def comparison(images: int, gained: int = 0, lost: int = 0, *, agreeing: int | None = None) -> Comparison:
    right = images * 4 // 5
    return Comparison(
        reference="float", candidate="int8", images=images, sqnr_db=20.0, cosine=0.9,
        agreeing=images - gained - lost if agreeing is None else agreeing, kl_mean=0.01,
        right=(right, right + gained - lost), change=change_from_counts(gained, lost, images),
    )  # fmt: skip


def test_kept_but_not_supported_names_the_images_that_could() -> None:
    verdict = drop_verdict(comparison(677, gained=6, lost=7), 0.3)
    assert (verdict.kept, verdict.supported) == (True, False)
    # (1.959964 + 0.841621)^2 * (15 / 679 - (1 / 677)^2) / (0.003 - 1 / 677)^2
    assert verdict.images_needed == 74757
    assert verdict.line() == (
        "PASS max-drop 0.3 (int8): lost 0.1 points (95 % CI -1.0 to 1.3, 677 images); "
        "the interval exceeds the promise, about 75,000 images would settle it"
    )
    assert verdict.line(strict=True).startswith("FAIL max-drop 0.3 (int8): lost 0.1 points")


def test_kept_and_supported() -> None:
    verdict = drop_verdict(comparison(10_000, gained=40, lost=42), 0.3)
    assert (verdict.kept, verdict.supported, verdict.images_needed) == (True, True, None)
    assert verdict.line() == "PASS max-drop 0.3 (int8): lost 0.0 points (95 % CI -0.2 to 0.2, 10000 images)"
    assert verdict.passes(strict=True)


def test_broken() -> None:
    verdict = drop_verdict(comparison(1000, gained=2, lost=25), 1.0)
    assert (verdict.kept, verdict.supported, verdict.images_needed) == (False, False, None)
    assert verdict.line() == "FAIL max-drop 1 (int8): lost 2.3 points (95 % CI 1.3 to 3.3, 1000 images)"


def test_a_value_is_shown_on_its_own_side_of_the_limit() -> None:
    assert drop_verdict(comparison(2500, lost=26), 1.0).measured.startswith("lost 1.04 points (")
    assert drop_verdict(comparison(250_000, lost=2510), 1.0).measured.startswith("lost 1.004 points (")


@pytest.mark.parametrize(
    ("lost", "max_drop", "kept"), [(1, 1.0, True), (1, 0.99, False), (0, 0.0, True), (1, 0.0, False)]
)
def test_the_limit_is_inclusive(lost: int, max_drop: float, kept: bool) -> None:
    assert drop_verdict(comparison(100, lost=lost), max_drop).kept is kept


def test_no_set_of_images_supports_no_drop_at_all() -> None:
    verdict = drop_verdict(comparison(677, gained=3, lost=3), 0.0)
    assert (verdict.kept, verdict.supported, verdict.images_needed) == (True, False, None)
    assert verdict.line().endswith("no number of images can settle a value so near the limit")
    gain = drop_verdict(comparison(10_000, gained=200, lost=20), 0.0)  # a gain beyond doubt
    assert (gain.kept, gain.supported) == (True, True)


def test_few_images_without_a_difference_prove_little() -> None:
    verdict = drop_verdict(comparison(20), 1.0)
    assert (verdict.kept, verdict.supported) == (True, False)
    assert verdict.images_needed == 7136  # as if 2 of 22 differed
    assert drop_verdict(comparison(300), 1.0).supported  # 2.77 / 302 < 0.01
    assert not drop_verdict(comparison(270), 1.0).supported


def test_the_images_needed_do_support_it_most_of_the_time() -> None:
    verdict = drop_verdict(comparison(2000, gained=18, lost=22), 0.5)
    needed = verdict.images_needed
    assert needed is not None
    assert needed > 2000
    counts = np.random.default_rng(5).multinomial(needed, [18 / 2000, 22 / 2000, 1960 / 2000], size=2000)
    shown = [paired_difference_interval(int(up), int(down), needed).low >= -0.005 for up, down, _ in counts]
    assert 0.77 <= np.mean(shown) <= 0.87


def test_agreement() -> None:
    broken = agreement_verdict(comparison(677, agreeing=650), 98)
    assert (broken.kept, broken.supported) == (False, False)
    assert broken.line() == (
        "FAIL min-agreement 98 (int8): 96.0 % of the images keep their class (95 % CI 94.3 to 97.2, 677 images)"
    )
    kept = agreement_verdict(comparison(677, agreeing=668), 98)
    assert (kept.kept, kept.supported) == (True, False)
    assert kept.images_needed == images_needed_for_share(0.98, 668 / 677)
    assert kept.line().startswith(
        "PASS min-agreement 98 (int8): 98.7 % of the images keep their class (95 % CI 97.5 to"
    )
    sure = agreement_verdict(comparison(677, agreeing=676), 98)
    assert (sure.kept, sure.supported, sure.images_needed) == (True, True, None)
    assert agreement_verdict(comparison(100, agreeing=98), 98).kept
    exact = agreement_verdict(comparison(100, agreeing=98), 98)
    assert exact.images_needed is None
    assert exact.line().endswith("no number of images can settle a value so near the limit")


def test_the_images_needed_for_a_share_do_show_it_most_of_the_time() -> None:
    needed = images_needed_for_share(0.97, 0.985)
    counts = np.random.default_rng(6).binomial(needed, 0.985, size=2000)
    shown = np.mean([wilson_interval(int(count), needed).low >= 0.97 for count in counts])
    assert 0.76 <= shown <= 0.86
    with pytest.raises(ValueError, match="cannot plan"):
        images_needed_for_share(0.98, 0.98)


def test_what_cannot_be_judged() -> None:
    outputs = np.full((4, 2), 0.5, np.float32)
    plain = judge_paired(outputs, outputs)
    with pytest.raises(UsageError) as caught:
        drop_verdict(plain, 1.0)
    assert caught.value.code == "no-labels"
    for limit in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError) as caught:
            drop_verdict(comparison(10), limit)
        assert caught.value.code == "max-drop"
    for limit in (-1.0, 100.5, float("nan")):
        with pytest.raises(UsageError) as caught:
            agreement_verdict(plain, limit)
        assert caught.value.code == "min-agreement"
    with pytest.raises(ValueError, match="no classes"):
        agreement_verdict(judge_paired(outputs, outputs, classes=False), 98)
