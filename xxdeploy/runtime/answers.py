"""From the output for one picture to an answer: named classes, a text, a picture, or a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.errors import UsageError

FEW = 32
"""Classes up to which Python sorts them all sooner than numpy finds the best."""
THRESHOLD = 0.5
"""A mask of one channel has its second class where the probability is larger."""
_COLORS = 256


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class for one image: its index, its name and the probability (0..1)."""

    index: int
    label: str
    probability: float


def top_predictions(probabilities: NDArray[np.float32], labels: Sequence[str], top: int) -> tuple[Prediction, ...]:
    """Return the ``top`` most probable classes, best first; equal ones in the order of their index.

    ``probabilities`` are (classes,) float32 of one image, ``labels`` the names of these classes. ``top`` may be more
    than there are; ``UsageError`` ``top-invalid`` if it is below 1.
    """
    if top < 1:
        raise UsageError(f"top must be at least 1, not {top}", hint="ask for one class or more", code="top-invalid")
    if probabilities.shape != (len(labels),):
        raise ValueError(f"{probabilities.shape} probabilities for {len(labels)} labels")
    count = len(labels)
    top = min(top, count)
    # Ties stay in the order of their index everywhere: both sorts are stable.
    if count <= FEW:
        values = probabilities.tolist()
        order = sorted(range(count), key=values.__getitem__, reverse=True)[:top]
        return tuple([Prediction(index, labels[index], values[index]) for index in order])
    # Sorting 1,000 classes for five takes longer than everything else downstream of the network.
    ordered = probabilities.copy()
    ordered.partition(count - top)
    likely = (probabilities >= ordered[count - top]).nonzero()[0]
    ranked = sorted(zip((-probabilities[likely]).tolist(), likely.tolist(), strict=True))[:top]
    return tuple([Prediction(index, labels[index], -negative) for negative, index in ranked])


@dataclass(frozen=True, slots=True)
class Reading:
    """The text on one image, and the probability (0..1) of the best class of every step, multiplied.

    The probability of the text itself is higher: other classes at some steps give the same text.
    """

    text: str
    probability: float


def reading_from(steps: NDArray[np.float32], labels: Sequence[str], blank: int) -> Reading:
    """Return the text of one output (steps, classes): probabilities of the classes, whose texts are ``labels``.

    Greedy decoding of CTC (Graves et al. 2006, "Connectionist temporal classification", section 3.2): the best class of
    each step, the lowest of equal ones; of equal classes in a row one stays; then ``blank`` is left out.
    """
    best = steps.argmax(axis=1)
    kept = best[np.concatenate(([True], best[1:] != best[:-1]))]
    text = "".join(labels[index] for index in kept.tolist() if index != blank)
    return Reading(text, float(steps.max(axis=1).astype(np.float64).prod()))


def pixels_of(output: NDArray[np.float32], output_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Return the pixels (..., channels) uint8 of an output picture, whose black and white are ``output_range``.

    Values outside the range are clipped, and values between two pixels rounded to the nearer one.
    """
    low, high = output_range
    scaled = (output.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(np.clip(scaled, 0, 255)), np.uint8)


def classes_of(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the class of each pixel, (...) uint8, of scores (..., classes); of equal scores the lowest class wins.

    One channel is the probability of the second of two classes, which is taken above 0.5.
    """
    if scores.shape[-1] == 1:
        return np.asarray(scores[..., 0] > THRESHOLD, np.uint8)
    return np.asarray(scores.argmax(axis=-1), np.uint8)


def picture_from(output: NDArray[np.float32], output_range: tuple[float, float] | None) -> Image.Image:
    """Return one output (h, w, channels) as a picture: gray (mode ``L``) or ``RGB``; without a range a mask (``P``).

    The palette of a mask is that of PASCAL VOC (Everingham et al. 2010, doi:10.1007/s11263-009-0275-4): class 0 is
    black, 1 dark red, 2 dark green, 3 olive. ``np.asarray`` of the picture gives the class of each pixel.
    """
    if output_range is None:
        mask = Image.fromarray(classes_of(output))
        mask.putpalette(palette())
        return mask
    pixels = pixels_of(output, output_range)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


@cache
def palette() -> bytes:
    """Return the colors of 256 classes, red, green and blue of each.

    The bits of a class go in threes, the lowest ones to the highest bits of red, green and blue.
    """
    colors = np.zeros((_COLORS, 3), np.uint8)
    for index in range(_COLORS):
        for level in range(8):
            bits = index >> (3 * level)
            for channel in range(3):
                colors[index, channel] |= (bits >> channel & 1) << (7 - level)
    return colors.tobytes()
