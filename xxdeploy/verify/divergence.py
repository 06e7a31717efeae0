"""Distances between two sets of outputs: Kullback-Leibler divergence, cosine. All in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FLOOR = float(np.finfo(np.float32).tiny)
"""A float32 softmax ends here: no probability is taken for less, so one image costs at most 87 nats."""

_SUM_TOLERANCE = 1e-3


def are_probabilities(rows: NDArray[np.float32]) -> bool:
    """Tell whether each of ``rows`` (n, classes) is a distribution: nothing negative, a sum of 1 within 0.001."""
    sums = rows.sum(axis=1, dtype=np.float64)
    return bool((rows >= 0).all() and (np.abs(sums - 1) <= _SUM_TOLERANCE).all())


def scores(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what a softmax made probabilities (n, classes) of, up to a constant: their logarithms about their mean."""
    logarithms = np.log(np.maximum(rows.astype(np.float64), _FLOOR))
    return np.asarray(logarithms - logarithms.mean(axis=1, keepdims=True))


def kl_divergence(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return KL(reference || candidate) of each image in nats, (n,) float64, of probabilities (n, classes).

    ``sum p ln(p / q)``: what is lost by believing the candidate's ``q`` where the reference's ``p`` is the truth
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
