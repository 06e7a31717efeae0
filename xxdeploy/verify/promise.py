"""Judge a promise: is it kept, and are there enough images to say so.

A promise is kept if the measured value is within the limit, and supported if the whole confidence interval is. A
candidate that loses nothing on 50 images keeps ``max_drop`` 0.3, but 50 images cannot rule out a loss of 3 points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xxdeploy.errors import UsageError
from xxdeploy.verify.comparison import Comparison
from xxdeploy.verify.scores import check_threshold
from xxdeploy.verify.statistics import PairedChange, images_needed, images_needed_for_share

_TOO_MANY = 10_000_000
"""No set has so many images: a larger estimate is reported as none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a promise about one model.

    ``promise`` is the option with its value (``max-drop 1``), ``candidate`` the model (``onnx-int8``). ``kept``: the
    measured value is within the limit. ``supported``: the whole 95 % interval is. ``images_needed``: the number of
    images that would show it with a power of 80 % if the measured value is the true one; None where the promise is
    supported or broken, or where no set of images could. ``measured`` is the value with its interval, in words.
    ``code`` is that of the error if the promise is broken.
    """

    promise: str
    candidate: str
    kept: bool
    supported: bool
    images_needed: int | None
    measured: str
    code: str

    def passes(self, *, strict: bool = False) -> bool:
        """Return whether the promise is kept, and with ``strict`` also supported."""
        return self.supported if strict else self.kept

    def line(self, *, strict: bool = False) -> str:
        """Return ``PASS max-drop 1 (onnx-int8): lost 0.1 points (95 % CI -0.4 to 0.6, 677 images)``, or FAIL."""
        word = "PASS" if self.passes(strict=strict) else "FAIL"
        return f"{word} {self.promise} ({self.candidate}): {self.measured}{self._doubt}"

    @property
    def _doubt(self) -> str:
        if self.supported or not self.kept:
            return ""
        return f"; the interval exceeds the promise, {_enough(self.images_needed)}"


def drop_verdict(comparison: Comparison, max_drop: float) -> Verdict:
    """Judge the loss of top-1 against ``max_drop`` points (percent of the images); the limit itself is allowed.

    Raises
    ------
    UsageError
        As :func:`check_max_drop`; ``no-labels``: the comparison had none.
    """
    check_max_drop(max_drop)
    change, top1 = comparison.change, comparison.top1
    if change is None or top1 is None:
        raise UsageError(
            "--max-drop needs labeled images, and these have no labels",
            hint="give --eval a folder with one subfolder a class, or with a labels.csv",
            code="no-labels",
        )
    images, lost = change.images, change.lost - change.gained
    # Compare counts of images: shares are not exact in binary, 0.8 - 0.79 is more than 0.01.
    kept = lost * 100 <= max_drop * images
    low, high = -100 * change.interval.high, -100 * change.interval.low
    digits = _digits(max_drop, 100 * lost / images, high)
    supported = kept and high <= max_drop
    needed = _images_for_drop(change, max_drop / 100) if kept and not supported else None
    ends = f"95 % CI {_number(low, digits)} to {_number(high, digits)}, {images} images"
    measured = f"lost {_number(100 * lost / images, digits)} points ({ends})"
    return Verdict(
        f"max-drop {max_drop:g}", comparison.candidate, kept, supported, needed, measured, code="accuracy-drop"
    )


def agreement_verdict(comparison: Comparison, min_agreement: float) -> Verdict:
    """Judge the share of images with the same class against ``min_agreement`` percent; needs no labels.

    Errors as :func:`check_min_agreement`; ``ValueError``: features have no classes.
    """
    check_min_agreement(min_agreement)
    agreeing, interval, images = comparison.agreeing, comparison.agreement_interval, comparison.images
    if agreeing is None or interval is None:
        raise ValueError("features have no classes to agree on")
    kept = agreeing * 100 >= min_agreement * images
    supported = kept and 100 * interval.low >= min_agreement
    digits = _digits(min_agreement, 100 * agreeing / images, 100 * interval.low)
    needed = _images_for_share(agreeing / images, min_agreement / 100, images) if kept and not supported else None
    ends = f"95 % CI {100 * interval.low:.{digits}f} to {100 * interval.high:.{digits}f}, {images} images"
    measured = f"{100 * agreeing / images:.{digits}f} % of the images keep their class ({ends})"
    promise = f"min-agreement {min_agreement:g}"
    return Verdict(promise, comparison.candidate, kept, supported, needed, measured, code="agreement-low")


def check_asked(max_drop: float | None, min_agreement: float | None, threshold: float | None, *, strict: bool) -> None:
    """Check the options of a proof; None was not given.

    ``UsageError``: as :func:`check_max_drop`, :func:`check_min_agreement` and ``check_threshold``;
    ``strict-without-promise``.
    """
    if strict and (max_drop, min_agreement) == (None, None):
        message = "--strict holds intervals to promises, and none is given"
        raise UsageError(message, hint="add --max-drop or --min-agreement", code="strict-without-promise")
    if max_drop is not None:
        check_max_drop(max_drop)
    if min_agreement is not None:
        check_min_agreement(min_agreement)
    if threshold is not None:
        check_threshold(threshold)


def check_max_drop(max_drop: float) -> None:
    """Raise ``UsageError`` ``max-drop`` unless the limit is a loss in points, 0 or more."""
    if not (math.isfinite(max_drop) and max_drop >= 0):
        raise UsageError(
            f"--max-drop {max_drop:g} is not a loss in points",
            hint="give 0 or more: --max-drop 1.0 allows one image in a hundred",
            code="max-drop",
        )


def check_min_agreement(min_agreement: float) -> None:
    """Raise ``UsageError`` ``min-agreement`` unless the limit is a share in percent, 0 to 100."""
    if not 0 <= min_agreement <= 100:
        raise UsageError(
            f"an agreement of {min_agreement:g} % cannot be promised",
            hint="give 0 to 100: 98 lets two images in a hundred change their class",
            code="min-agreement",
        )


def _images_for_drop(change: PairedChange, limit: float) -> int | None:
    """Return the number of images that show a drop of at most ``limit`` (0..1) if the measured drop is true."""
    expected = max(0.0, -change.change)
    if not expected < limit:
        return None
    # One gain and one loss are added as in the interval: a few images without a difference prove little.
    differ = (change.gained + change.lost + 2) / (change.images + 2)
    needed = images_needed(min(1.0, limit), min(1.0, max(differ, expected)), expected_drop=expected)
    return _sensible(needed, change.images)


def _images_for_share(expected: float, limit: float, images: int) -> int | None:
    return _sensible(images_needed_for_share(limit, expected), images) if limit < expected else None


def _sensible(needed: int, images: int) -> int | None:
    """Return a number larger than ``images``, which were not enough; None if no set has so many."""
    needed = max(needed, images + 1)
    return needed if needed <= _TOO_MANY else None


def _enough(images: int | None) -> str:
    """Return a sentence; the number, an estimate, is rounded up to two digits."""
    if images is None:
        return "and no number of images can settle a value so near the limit"
    unit = 10 ** max(0, len(str(images)) - 2)
    return f"about {math.ceil(images / unit) * unit:,} images would settle it"


def _number(value: float, digits: int) -> str:
    """Write a number; zero is never -0.0."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _digits(limit: float, *values: float) -> int:
    """Return the fewest digits, 1 to 3, with which each rounded value stays on its side of ``limit``."""

    def seen(value: float, digits: int) -> bool:
        shown = round(value, digits)
        return (shown > limit, shown < limit) == (value > limit, value < limit)

    return next((digits for digits in (1, 2) if all(seen(value, digits) for value in values)), 3)
