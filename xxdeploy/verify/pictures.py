"""Pictures and masks of a candidate against those of its reference: PSNR, SSIM, agreement of pixels, IoU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xxdeploy.results import Figure
from xxdeploy.runtime.answers import classes_of
from xxdeploy.verify.statistics import Interval, bootstrap_interval

LARGEST_PSNR = 100.0
"""Decibels of a picture without any difference, and of all that are better: two pictures of bytes that differ in one
pixel of a million by one step have 108 dB."""
WINDOW = 11
"""Pixels a side of the window of SSIM; smaller pictures have no SSIM."""
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_SSIM_VALUES = 1 << 25
"""Values of pictures after which SSIM is measured on no further ones: it takes 0.2 microseconds a value."""


def psnr(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of each picture in dB, (n,) float64, of pixels (n, ...) in 0..1.

    ``-10 log10(mean squared difference)``, at most ``LARGEST_PSNR``.
    """
    difference = reference.reshape(len(reference), -1).astype(np.float64) - candidate.reshape(len(candidate), -1)
    noise = np.square(difference).mean(axis=1)
    return np.asarray(-10 * np.log10(np.maximum(noise, 10 ** (-LARGEST_PSNR / 10))))


def ssim(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the structural similarity of each picture, (n,) float64, of pixels (n, h, w, channels) in 0..1.

    Wang, Bovik, Sheikh and Simoncelli 2004, "Image quality assessment: from error visibility to structural similarity",
    doi:10.1109/TIP.2003.819861: a Gaussian window of 11 x 11 with a deviation of 1.5, K1 = 0.01, K2 = 0.03, the mean
    over all whole windows and channels. scikit-image has the same as ``structural_similarity(gaussian_weights=True,
    use_sample_covariance=False, data_range=1)``. ``ValueError``: pictures of less than 11 pixels a side.
    """
    if min(reference.shape[1:3]) < WINDOW:
        raise ValueError(f"pictures of {reference.shape[1:3]} are smaller than the window of {WINDOW}")
    x, y = reference.astype(np.float64), candidate.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    squares, product = mean_x**2 + mean_y**2, mean_x * mean_y
    variances, covariance = _blurred(x * x + y * y) - squares, _blurred(x * y) - product
    similarity = (2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))
    return np.asarray(similarity.mean(axis=(1, 2, 3)))


def _blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean of each whole window, (n, h - 10, w - 10, channels)."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * np.square(places / _SIGMA))
    weights /= weights.sum()
    for axis in (1, 2):
        size = values.shape[axis] - WINDOW + 1
        total = np.zeros((*values.shape[:axis], size, *values.shape[axis + 1 :]))
        for place, weight in enumerate(weights):
            part = values[:, place : place + size] if axis == 1 else values[:, :, place : place + size]
            total += weight * part
        values = total
    return values


def ends_of(interval: Interval | None) -> tuple[float, float] | None:
    """Return the two ends of an interval, as a figure holds them."""
    return None if interval is None else (interval.low, interval.high)


class PictureTally:
    """PSNR and SSIM of output pictures of one ``shape`` (h, w, channels), whose black and white are ``output_range``.

    Values outside the range are clipped first, as the device clips them.
    """

    def __init__(self, shape: tuple[int, ...], output_range: tuple[float, float]) -> None:
        self._shape, self._range = shape, output_range
        self._psnr: list[NDArray[np.float64]] = []
        self._ssim: list[NDArray[np.float64]] = []
        self._noise: list[NDArray[np.float64]] = []
        self._values = 0

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Count a batch of rows, (n, values) each."""
        left, right = self._pixels(reference), self._pixels(candidate)
        self._psnr.append(psnr(left, right))
        self._noise.append(np.square(left - right).mean(axis=(1, 2, 3)))
        if min(self._shape[:2]) >= WINDOW and self._values < _SSIM_VALUES:
            self._ssim.append(ssim(left, right))
            self._values += left.size

    def _pixels(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        low, high = self._range
        return np.clip((rows.reshape(-1, *self._shape).astype(np.float64) - low) / (high - low), 0, 1)

    def figures(self) -> tuple[Figure, ...]:
        """Return the mean PSNR and the mean SSIM, which small pictures lack."""
        ratios = np.concatenate(self._psnr)
        made = [Figure("psnr", float(ratios.mean()), ends_of(bootstrap_interval(ratios)))]
        if self._ssim:
            similarities = np.concatenate(self._ssim)
            images = None if len(similarities) == len(ratios) else len(similarities)
            made.append(Figure("ssim", float(similarities.mean()), ends_of(bootstrap_interval(similarities)), images))
        return tuple(made)

    @property
    def loss(self) -> float:
        """Return the mean squared difference of the pixels (0..1)."""
        return float(np.concatenate(self._noise).mean())


class MaskTally:
    """Agreement of pixels and intersection over union of masks of one ``shape`` (h, w, channels)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._classes = max(2, shape[-1])
        self._same: list[float] = []
        self._both: list[NDArray[np.int64]] = []
        self._either: list[NDArray[np.int64]] = []

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Count a batch of rows, (n, values) each."""
        for left, right in zip(self._masks(reference), self._masks(candidate), strict=True):
            agree = left == right
            self._same.append(float(agree.mean()))
            both = np.bincount(left[agree], minlength=self._classes)
            self._both.append(both)
            seen = np.bincount(left, minlength=self._classes) + np.bincount(right, minlength=self._classes)
            self._either.append(seen - both)

    def _masks(self, rows: NDArray[np.float32]) -> NDArray[np.uint8]:
        return classes_of(rows.reshape(len(rows), -1, self._shape[-1]))

    def figures(self) -> tuple[Figure, ...]:
        """Return the mean over the classes of intersection over union, and the share of pixels with the same class.

        Intersections and unions are summed over all pictures; a class that neither gives to any pixel does not count.
        """
        both, either = np.stack(self._both), np.stack(self._either)

        def mean_iou(weights: NDArray[np.float64]) -> float:
            union = weights @ either
            return float(np.mean((weights @ both)[union > 0] / union[union > 0]))

        same = np.asarray(self._same)
        value = mean_iou(np.ones(len(same)))
        return (
            Figure("iou", value, ends_of(bootstrap_interval(same, mean_iou))),
            Figure("pixels", float(same.mean()), ends_of(bootstrap_interval(same))),
        )

    @property
    def loss(self) -> float:
        """Return 1 less the mean IoU."""
        both, either = np.sum(self._both, axis=0), np.sum(self._either, axis=0)
        return 1 - float(np.mean(both[either > 0] / either[either > 0]))
