"""How many pictures go through a network at once."""

from __future__ import annotations

CALIBRATION_BATCH = 8
"""Images that are read and preprocessed together where a graph runs them one by one."""
EVALUATION_BATCH = 16
"""Images that go through a network together where only its outputs are of interest."""
_USUAL_PIXELS = 224 * 224


def batch_that_fits(most: int, height: int, width: int) -> int:
    """Return how many pictures of that size go through at once, 2 at least: ``most``, or fewer of larger ones.

    The tensors of NASNetLarge are a gigabyte for eight of its pictures, 331 pixels a side.
    """
    return max(2, min(most, most * _USUAL_PIXELS // (height * width)))
