"""PSNR, SSIM, agreement of pixels and IoU, against their formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.verify.pictures import LARGEST_PSNR, WINDOW, MaskTally, PictureTally, psnr, ssim

RANDOM = np.random.default_rng(0)
Pictures = NDArray[np.float64]


def pair(noise: float, shape: tuple[int, ...] = (2, 16, 18, 3)) -> tuple[Pictures, Pictures]:
    ramp = np.linspace(0, 1, shape[1])[None, :, None, None] * np.ones(shape)
    clean = np.clip(ramp + 0.2 * RANDOM.normal(size=shape), 0, 1)
    return clean, np.clip(clean + noise * RANDOM.normal(size=shape), 0, 1)


def ssim_written_out(x: Pictures, y: Pictures) -> float:
    """Equation 13 of Wang 2004 at each place of an 11 x 11 window, one by one."""
    places = np.arange(WINDOW) - 5
    weights = np.exp(-(places[:, None] ** 2 + places[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for channel in range(x.shape[2]):
        for row in range(x.shape[0] - WINDOW + 1):
            for column in range(x.shape[1] - WINDOW + 1):
                a, b = (p[row : row + WINDOW, column : column + WINDOW, channel] for p in (x, y))
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                both = (weights * (a - mean_a) * (b - mean_b)).sum()
                means = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
                found.append(means * (2 * both + 0.03**2) / (var_a + var_b + 0.03**2))
    return float(np.mean(found))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_is_the_formula_of_the_paper(noise: float) -> None:
    x, y = pair(noise)
    np.testing.assert_allclose(ssim(x, y), [ssim_written_out(*both) for both in zip(x, y, strict=True)], rtol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(channels: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pair(0.1, (2, 24, 20, channels))
    same = [
        metrics.structural_similarity(
            *both, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=-1
        )
        for both in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ssim(x, y), same, rtol=1e-9)


def test_equal_pictures_have_the_largest_values() -> None:
    x, _ = pair(0.1)
    assert psnr(x, x).tolist() == [LARGEST_PSNR] * 2
    np.testing.assert_allclose(ssim(x, x), 1)


def test_psnr_of_a_known_difference() -> None:
    x = np.zeros((2, 4, 4, 1))
    np.testing.assert_allclose(psnr(x, x + np.array([0.1, 0.01]).reshape(2, 1, 1, 1)), [20, 40])


def test_a_small_picture_has_no_window() -> None:
    with pytest.raises(ValueError, match="smaller than the window"):
        ssim(np.zeros((1, 10, 30, 1)), np.zeros((1, 10, 30, 1)))


def rows(pictures: NDArray[np.floating]) -> NDArray[np.float32]:
    return pictures.reshape(len(pictures), -1).astype(np.float32)


def test_pictures_are_measured_in_their_range_and_clipped_to_it() -> None:
    x, y = pair(0.05, (12, 16, 16, 3))
    tally, scaled = PictureTally(x.shape[1:], (0.0, 1.0)), PictureTally(x.shape[1:], (-1.0, 1.0))
    for part in (slice(0, 5), slice(5, 12)):
        tally.add(rows(x[part]), rows(y[part]))
        scaled.add(rows(2 * x[part] - 1), rows(np.where(y[part] == 1, 9.0, 2 * y[part] - 1)))
    figures = tally.figures()
    assert [figure.name for figure in figures] == ["psnr", "ssim"]
    assert figures[0].value == pytest.approx(float(psnr(x, y).mean()), rel=1e-5)
    assert figures[0].interval is not None
    assert figures[0].interval[0] < figures[0].value < figures[0].interval[1]
    assert [figure.value for figure in scaled.figures()] == pytest.approx(
        [figure.value for figure in figures], rel=1e-4
    )
    assert tally.loss == pytest.approx(float(np.square(x - y).mean()), rel=1e-4)


def test_small_pictures_have_psnr_only() -> None:
    tally = PictureTally((8, 8, 1), (0.0, 1.0))
    tally.add(np.zeros((2, 64), np.float32), np.full((2, 64), 0.1, np.float32))
    (figure,) = tally.figures()
    assert (figure.name, round(figure.value, 3), figure.interval) == ("psnr", 20.0, None)


def test_iou_and_agreement_of_masks() -> None:
    """Of four pixels, one changes from class 0 to 1: IoU is 1/2 for class 0 and 2/3 for class 1; class 2 is absent."""
    right, wrong = np.eye(3)[[[[0, 0], [1, 1]]]], np.eye(3)[[[[0, 1], [1, 1]]]]
    tally = MaskTally((2, 2, 3))
    tally.add(rows(right), rows(wrong))
    iou, pixels = tally.figures()
    assert [iou.name, pixels.name] == ["iou", "pixels"]
    assert iou.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert pixels.value == 0.75
    assert tally.loss == pytest.approx(1 - iou.value)


def test_one_channel_is_a_mask_of_two_classes() -> None:
    tally = MaskTally((1, 4, 1))
    tally.add(np.array([[0.1, 0.4, 0.6, 0.9]], np.float32), np.array([[0.2, 0.6, 0.6, 0.9]], np.float32))
    assert tally.figures()[0].value == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_intersections_are_summed_over_all_pictures() -> None:
    """A class in one picture only weighs as much as its pixels there: the mean over pictures would be another."""
    right, wrong = np.zeros((20, 4, 1)), np.zeros((20, 4, 1))
    right[0, :2] = wrong[0, :1] = 1
    tally = MaskTally((2, 2, 1))
    for part in (slice(0, 1), slice(1, 20)):
        tally.add(rows(right[part]), rows(wrong[part]))
    iou, pixels = tally.figures()
    assert iou.value == pytest.approx((78 / 79 + 1 / 2) / 2)
    assert pixels.value == pytest.approx(79 / 80)
    assert iou.interval is not None
    assert iou.interval[0] <= iou.value <= iou.interval[1]
