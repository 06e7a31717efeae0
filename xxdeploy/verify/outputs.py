"""Outputs of runners: computed and checked before anything is counted, and their distances, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.results import OnProgress, Progress, Runner

_FLOOR = float(np.finfo(np.float32).tiny)
"""The smallest probability of a float32 softmax. Smaller ones count as this, so one image adds at most 87 nats."""

_SUM_TOLERANCE = 1e-3


def run_batches(
    runner: Runner,
    batches: Iterable[NDArray[Any]],
    purpose: str,
    step: str,
    on_progress: OnProgress | None,
    total: int | None,
) -> Iterator[tuple[NDArray[Any], NDArray[np.float32]]]:
    """Yield each batch that is not empty with its outputs; report the images done as step ``STEP RUNNER``.

    ``UsageError`` ``no-images``: no batch holds an image, and ``purpose`` needs some; else as :func:`run_finite`.
    """
    images = 0
    for batch in batches:
        if len(batch):
            rows = run_finite(runner, batch, images)
            yield batch, rows
            images += len(batch)
            if on_progress is not None:
                on_progress(Progress(f"{step} {runner.name}", images, total))
    if not images:
        raise no_images(purpose)


def no_images(purpose: str) -> UsageError:
    """Return the error for an empty set of images; ``purpose`` begins with a verb."""
    return UsageError(f"no images to {purpose} on", hint="give a folder that holds images", code="no-images")


def check_same_values(reference: str, candidate: str, values: tuple[int, int]) -> None:
    """Raise ``VerificationError`` ``output-shape`` unless both runners return the same number of values an image."""
    if values[0] != values[1]:
        raise VerificationError(
            f"{reference} gives {values[0]} values an image, {candidate} gives {values[1]}",
            hint="the two are not the same model: compare a bundle with the model that it was made from",
            code="output-shape",
        )


def run_finite(runner: Runner, batch: NDArray[Any], first: int) -> NDArray[np.float32]:
    """Run one batch; return (n, values) float32: probabilities, or features flattened in their own order.

    ``batch`` is (n, h, w, c) float32, or uint8 for a runner that takes pixels; ``first`` is the position of its first
    image in the set, for the message. NaN would pass a comparison such as ``x > limit``.

    Raises
    ------
    VerificationError
        ``output-shape``: not one entry an image; ``non-finite-output``: a value is NaN or infinite.
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
    """Return the labels of ``images`` images from position ``first``, (images,) int64.

    ``UsageError`` ``label-range``: one is no class of the model. ``ValueError``: there are fewer labels.
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


def are_probabilities(rows: NDArray[np.float32]) -> bool:
    """Tell whether each of ``rows`` (n, classes) is a distribution: nothing negative, a sum of 1 within 0.001."""
    sums = rows.sum(axis=1, dtype=np.float64)
    return bool((rows >= 0).all() and (np.abs(sums - 1) <= _SUM_TOLERANCE).all())


def scores(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inputs of the softmax that made probabilities (n, classes), up to a constant: centered logarithms."""
    logarithms = np.log(np.maximum(rows.astype(np.float64), _FLOOR))
    return np.asarray(logarithms - logarithms.mean(axis=1, keepdims=True))


def kl_divergence(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return KL(reference || candidate) of each image in nats, (n,) float64, of probabilities (n, classes).

    ``sum p ln(p / q)``: the loss by believing the candidate's ``q`` where the reference's ``p`` is the truth
    (Kullback and Leibler 1951, "On information and sufficiency"). It moves long before the class does: a candidate
    that is less sure of the same class has a divergence, too. Never negative.
    """
    p, q = reference.astype(np.float64), candidate.astype(np.float64)
    # float32 probabilities add up to 1 within 1e-6 only, which would show as a divergence below zero.
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    terms = np.where(p > 0, p * (np.log(np.maximum(p, _FLOOR)) - np.log(np.maximum(q, _FLOOR))), 0.0)
    return np.asarray(np.maximum(terms.sum(axis=1), 0.0))


def cosines(reference: NDArray[np.floating], candidate: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of the two rows of each image, (n,) float64. Two zero rows have 1, one zero row 0."""
    left, right = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    norms = np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1)
    product = norms[0] * norms[1]
    zero = np.where((norms[0] == 0) & (norms[1] == 0), 1.0, 0.0)
    return np.asarray(np.divide((left * right).sum(axis=1), product, out=zero, where=product > 0))
