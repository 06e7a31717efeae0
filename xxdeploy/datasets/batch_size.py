"""Batch sizes of the steps that run a network on many images."""

from __future__ import annotations

CALIBRATION_BATCH = 8
"""Images that are read and preprocessed together where a graph runs them one by one."""
EVALUATION_BATCH = 16
"""Images that go through a network together where only its outputs are of interest."""
_USUAL_PIXELS = 224 * 224


def batch_that_fits(most: int, height: int, width: int) -> int:
    """Return the batch size for images of that size: ``most``, or fewer of large images, at least 2.

    The tensors of NASNetLarge take a gigabyte for eight of its images, 331 pixels a side.
    """
    return max(2, min(most, most * _USUAL_PIXELS // (height * width)))
