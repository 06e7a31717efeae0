"""Top-1 and top-5 accuracy of a runner, and its class for each image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.results import Accuracy, OnProgress, Runner
from xxdeploy.verify.outputs import labels_of_batch, run_batches


def evaluate(
    runner: Runner,
    batches: Iterable[NDArray[Any]],
    labels: Sequence[int] | None,
    *,
    on_progress: OnProgress | None = None,
    total: int | None = None,
) -> Accuracy:
    """Run a classifier over images, one batch in memory, and count.

    ``batches`` are (n, h, w, c) float32, or uint8 for a runner that takes pixels, in the order of ``labels``, the class
    index of each image; without labels only the runner's classes are recorded. ``total`` images are announced to
    ``on_progress``, by default the number of labels.

    Equal scores are ranked by class index, the lowest first, so the figures are the same on every machine. With five
    classes or fewer, top-5 counts every image.

    Raises
    ------
    UsageError
        ``no-images``; ``label-range``: a label is no class of this model.
    VerificationError
        ``non-finite-output`` and ``output-shape``.
    ValueError
        The number of labels is not that of the images.
    """
    total = len(labels) if labels is not None and total is None else total
    classes: list[int] = []
    top1 = top5 = 0
    purpose = f"evaluate {runner.name}"
    for batch, scores in run_batches(runner, batches, purpose, "accuracy", on_progress, total):
        # Stable: of equal scores the lowest index comes first.
        ranks = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        if labels is not None:
            truth = labels_of_batch(labels, len(classes), len(batch), scores.shape[1])
            top1 += int(np.count_nonzero(ranks[:, 0] == truth))
            top5 += int(np.count_nonzero((ranks == truth[:, None]).any(axis=1)))
        classes.extend(int(best) for best in ranks[:, 0])
    if labels is None:
        return Accuracy(runner.name, None, None, tuple(classes))
    if len(labels) != len(classes):
        raise ValueError(f"{len(labels)} labels for {len(classes)} images")
    return Accuracy(runner.name, top1 / len(classes), top5 / len(classes), tuple(classes))
