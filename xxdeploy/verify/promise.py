"""Judge a promise: is it kept, and are there enough images to say so.

A promise is kept if the measured value is within the limit, and supported if the whole confidence interval is. A
candidate that loses nothing on 50 images keeps ``max_drop`` 0.3, but 50 images cannot rule out a loss of 3 points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from xxdeploy.errors import UsageError
from xxdeploy.results import Figure, figure_named
from xxdeploy.verify.comparison import Comparison
from xxdeploy.verify.scores import check_threshold
from xxdeploy.verify.statistics import FEWEST, PairedChange, images_needed, images_needed_for_share

_TOO_MANY = 10_000_000
"""No set has so many images: a larger estimate is reported as none."""


_POWER = 1.43
"""Width of an interval of which a share of 80 % of all samples stays on the right side: (1.96 + 0.84) / 1.96."""


@dataclass(frozen=True, slots=True)
class FigurePromise:
    """A promise about a figure of the tasks ``image`` and ``values``.

    ``figure`` is its name in ``results.figures.KINDS``, ``kind`` the outputs that have it, ``code`` that of the error
    if the promise is broken. A limit lies between 0 and ``most``; ``example`` explains one.
    """

    figure: str
    kind: Literal["pictures", "masks", "values"]
    most: float
    example: str
    code: str


FIGURE_PROMISES: dict[str, FigurePromise] = {
    "min_psnr": FigurePromise("psnr", "pictures", 100.0, "0 to 100: 40 is hard to see", code="psnr-low"),
    "min_iou": FigurePromise("iou", "masks", 1.0, "give a share: 0.95, not 95", code="iou-low"),
    "max_error": FigurePromise(
        "p95_error", "values", math.inf, "give 0 or more, in the unit of the output", code="error-high"
    ),
}
"""The promises by their option, its dashes written as underscores."""


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


def figure_verdict(comparison: Comparison, option: str, limit: float) -> Verdict:
    """Judge a figure against ``limit``, the value of an ``option`` of :data:`FIGURE_PROMISES`; the limit is allowed.

    ``ValueError``: the comparison has no such figure.
    """
    promise = FIGURE_PROMISES[option]
    figure = figure_named(comparison.figures, promise.figure)
    if figure is None:
        raise ValueError(f"{comparison.candidate} has no {promise.figure}")
    sign = 1 if figure.kind.rises else -1
    kept = sign * figure.value >= sign * limit
    worst = None if figure.interval is None else figure.interval[0 if figure.kind.rises else 1]
    supported = kept and worst is not None and sign * worst >= sign * limit
    needed = None
    if kept and not supported:
        needed = _images_for_figure(figure, limit, comparison.images) if worst is not None else FEWEST
    return Verdict(
        f"{option.replace('_', '-')} {limit:g}",
        comparison.candidate,
        kept,
        supported,
        needed,
        f"{figure.sentence}, {comparison.images} image{'s' if comparison.images != 1 else ''}",
        code=promise.code,
    )


def _images_for_figure(figure: Figure, limit: float, images: int) -> int | None:
    """Return the number of images whose interval lies within the limit: its width falls with their square root."""
    assert figure.interval is not None
    half = abs(figure.interval[0 if figure.kind.rises else 1] - figure.value)
    margin = abs(figure.value - limit)
    return None if margin == 0 else _sensible(math.ceil(images * (_POWER * half / margin) ** 2), images)


def check_asked(
    max_drop: float | None,
    min_agreement: float | None,
    threshold: float | None,
    figures: Mapping[str, float],
    *,
    strict: bool,
) -> None:
    """Check the options of a proof; None was not given. ``figures`` are limits by names of :data:`FIGURE_PROMISES`.

    ``UsageError``: as :func:`check_max_drop`, :func:`check_min_agreement` and ``check_threshold``; ``promise-invalid``:
    no figure can have such a limit; ``strict-without-promise``.
    """
    if strict and not figures and (max_drop, min_agreement) == (None, None):
        message = "--strict holds intervals to promises, and none is given"
        options = ", ".join(f"--{name.replace('_', '-')}" for name in FIGURE_PROMISES)
        raise UsageError(message, hint=f"add --max-drop, --min-agreement, {options}", code="strict-without-promise")
    for name, limit in figures.items():
        if not (math.isfinite(limit) and 0 <= limit <= FIGURE_PROMISES[name].most):
            raise UsageError(
                f"--{name.replace('_', '-')} {limit:g} cannot be promised",
                hint=FIGURE_PROMISES[name].example,
                code="promise-invalid",
            )
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
