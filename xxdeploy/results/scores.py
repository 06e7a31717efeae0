"""How the scores of a classifier move from one model to another, as values of the manifest's evidence.

INT8 may keep the class of every image and still move its score, and then a program that acts on a threshold acts
differently. These figures show that; the agreement of classes does not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MatchingThreshold:
    """The threshold at which a candidate decides most like its reference.

    The score is that of the second class of two, or of the only class; of more classes it is that of each model's
    top-1 class. The reference decides where its score is above ``reference`` (0..1). Of the candidate's decisions above
    ``candidate`` (0..1), ``differing`` images are decided otherwise: no other threshold has fewer on these images.
    ``unchanged`` is the number of images that differ where the candidate keeps the reference's threshold.
    """

    reference: float
    candidate: float
    differing: int
    unchanged: int

    def __post_init__(self) -> None:
        if not (0 <= self.reference <= 1 and 0 <= self.candidate <= 1):
            raise ValueError(f"thresholds must be 0 to 1, not {self.reference} and {self.candidate}")
        if not 0 <= self.differing <= self.unchanged:
            raise ValueError(f"{self.differing} differing images cannot be the fewest if another has {self.unchanged}")


@dataclass(frozen=True, slots=True)
class ScoreShift:
    """The shift of the top-1 score (0..1) from a reference to a candidate, on the same images.

    The top-1 score of a model is the largest one, whichever class it belongs to. ``mean``, ``p5`` and ``p95`` are the
    mean and the 5th and 95th percentile of candidate minus reference. ``calibration_error`` is the expected calibration
    error (0..1) of the reference and of the candidate, None without labels. ``threshold`` is None
    for more than two classes, unless --threshold asks for it.
    """

    mean: float
    p5: float
    p95: float
    calibration_error: tuple[float, float] | None = None
    threshold: MatchingThreshold | None = None

    def __post_init__(self) -> None:
        if not -1 <= self.p5 <= self.p95 <= 1 or not -1 <= self.mean <= 1:
            raise ValueError(f"a shift of scores must be -1 to 1: {self.mean}, {self.p5} to {self.p95}")
        if self.calibration_error is not None and not all(0 <= error <= 1 for error in self.calibration_error):
            raise ValueError(f"a calibration error must be 0 to 1: {self.calibration_error}")

    @property
    def sentence(self) -> str:
        """Return the figures on one line, in points of score (0..100)."""
        parts = [
            f"top-1 score {_points(self.mean)} points on average, {_points(self.p5)}..{_points(self.p95)} for 90 % of "
            "the images"
        ]
        if self.calibration_error is not None:
            before, after = (100 * error for error in self.calibration_error)
            parts.append(f"expected calibration error {before:.1f} -> {after:.1f} %")
        threshold = self.threshold
        if threshold is not None and threshold.candidate == threshold.reference:
            parts.append(f"no threshold is better than {threshold.reference:g}: {_images(threshold.differing)}")
        elif threshold is not None:
            kept = f"threshold {threshold.candidate:.4g} decides most like {threshold.reference:g} in float"
            parts.append(f"{kept}: {_images(threshold.differing)} ({threshold.unchanged} at {threshold.reference:g})")
        return ", ".join(parts)


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _images(count: int) -> str:
    return "1 image differs" if count == 1 else f"{count} images differ"
