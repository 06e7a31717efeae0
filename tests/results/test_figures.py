"""Figures: their names, digits and sentences."""

from __future__ import annotations

import pytest

from xxdeploy.results import KINDS, Figure, figure_named, rounded_figures


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        (Figure("psnr", 41.234), "PSNR 41.2 dB"),
        (Figure("psnr", 41.234, (40.8, 41.6)), "PSNR 41.2 dB (95 % CI 40.8 to 41.6)"),
        (Figure("ssim", 0.98765, None, 64), "SSIM 0.9877 (on 64 of them)"),
        (Figure("pixels", 0.9954, (0.99, 0.999)), "same pixels 99.54 % (95 % CI 99.00 to 99.90)"),
        (Figure("p95_error", 0.012345), "p95 error 0.0123"),
    ],
)
def test_a_figure_is_a_sentence(figure: Figure, sentence: str) -> None:
    assert figure.sentence == sentence


def test_headings_have_units() -> None:
    assert [KINDS[name].heading for name in ("psnr", "iou", "pixels")] == ["PSNR dB", "mean IoU", "same pixels %"]


def test_five_digits_repeat() -> None:
    figures = (Figure("mean_error", 0.01234567, (0.0111111, 0.0133333)), Figure("psnr", 41.23456))
    rounded = rounded_figures(figures)
    assert rounded == (Figure("mean_error", 0.012346, (0.011111, 0.013333)), Figure("psnr", 41.235))
    assert figure_named(rounded, "psnr") == Figure("psnr", 41.235)
    assert figure_named(rounded, "iou") is None


@pytest.mark.parametrize("wrong", [("loudness", 1.0, None), ("psnr", 1.0, (2.0, 1.0))])
def test_impossible_figures(wrong: tuple[str, float, tuple[float, float] | None]) -> None:
    with pytest.raises(ValueError, match=r"figure|interval"):
        Figure(*wrong)
