"""Whether a model lost more top-1 accuracy than was allowed."""

from __future__ import annotations

import math

from xxdeploy.artifacts import Accuracy
from xxdeploy.errors import VerificationError
from xxdeploy.verify.promise import check_max_drop, no_labels


def check_drop(reference: Accuracy, candidate: Accuracy, max_drop: float) -> None:
    """Judge the loss of top-1 on the same labelled images.

    Parameters
    ----------
    reference, candidate
        Two runs over the same images in the same order.
    max_drop
        The largest allowed loss in points (percent of the images): 0 allows none, and a gain is never refused.

    Raises
    ------
    UsageError
        ``max-drop`` when the limit is negative or not a number; ``no-labels`` when the images had none.
    VerificationError
        ``accuracy-drop`` when more was lost.
    ValueError
        The two runs saw different numbers of images.
    """
    check_max_drop(max_drop)
    if reference.images != candidate.images:
        raise ValueError(f"{reference.images} and {candidate.images} images: not the same set")
    if reference.top1 is None or candidate.top1 is None:
        raise no_labels()
    # Whole images are compared: a share is not exact in binary, 0.8 - 0.79 is more than 0.01.
    lost = round(reference.top1 * reference.images) - round(candidate.top1 * candidate.images)
    if lost * 100 <= max_drop * reference.images:
        return
    drop = 100 * lost / reference.images
    digits = 1 if round(drop, 1) > max_drop else 2
    raise VerificationError(
        f"top-1 fell {drop:.{digits}f} points ({100 * reference.top1:.{digits}f} -> "
        f"{100 * candidate.top1:.{digits}f}, {reference.images} images), more than --max-drop {max_drop!s}",
        hint=f"try more --samples, or --method minmax, or --max-drop {math.ceil(drop * 10) / 10:.1f} to accept it",
        code="accuracy-drop",
    )
