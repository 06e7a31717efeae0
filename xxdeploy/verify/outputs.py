"""Outputs of a runner, looked at before anything is counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.results import Runner


def run_finite(runner: Runner, batch: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """Run one batch and return the outputs flattened to one row an image.

    Parameters
    ----------
    runner
        What to run.
    batch
        Preprocessed images ``(n, h, w, c)`` float32.
    first
        Position of the batch's first image in the set (0-based), for the error message.

    Returns
    -------
    NDArray
        ``(n, values)`` float32: class probabilities, or features flattened in their own order.

    Raises
    ------
    VerificationError
        ``output-shape`` when the output does not hold one entry an image; ``non-finite-output`` when a value
        is NaN or infinite. No measure means anything then, and NaN would pass a comparison such as ``x > limit``.
    """
    output = np.asarray(runner.run(batch))
    if output.ndim < 2 or output.shape[0] != batch.shape[0] or output.size == 0:
        raise VerificationError(
            f"{runner.name} gave an output of shape {output.shape} for a batch of {batch.shape[0]} images",
            hint="the first axis must be the batch: look at the model's output with `xxdeploy inspect`",
            code="output-shape",
        )
    rows = output.reshape(output.shape[0], -1)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise VerificationError(
            f"{runner.name} gave {rows[row, column]} for image {first + row + 1} (value {column} of {rows.shape[1]})",
            hint="look for NaN or infinity in the weights (`xxdeploy inspect`) and for a wrong --preprocess",
            code="non-finite-output",
        )
    return rows


def labels_of_batch(labels: Sequence[int], first: int, images: int, classes: int) -> NDArray[np.int64]:
    """Return the labels of ``images`` images from position ``first``: ``(images,)`` int64, each a class of the model.

    Raises
    ------
    UsageError
        ``label-range``.
    ValueError
        There are not so many labels.
    """
    truth = np.asarray(labels[first : first + images], dtype=np.int64)
    if len(truth) != images:
        raise ValueError(f"{len(labels)} labels for at least {first + images} images")
    wrong = np.flatnonzero((truth < 0) | (truth >= classes))
    if len(wrong):
        raise UsageError(
            f"image {first + int(wrong[0]) + 1} has class {int(truth[wrong[0]])}, but the model has {classes} classes",
            hint="evaluate on images of the classes that the model was trained on, or give their names with --labels",
            code="label-range",
        )
    return truth
