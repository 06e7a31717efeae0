"""Round each weight up or down so that the layer's output changes least, instead of to the nearest integer.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv:2004.10568: with ``e`` the
rounding errors of the weights of one output channel and ``x`` the values they are multiplied with, the error of the
output is ``e . x``. Equation 13 is minimized::

    E[(e . x)^2] = e^T H e,    H = E[x x^T],    e_i = w_i / s - q_i,    q_i in {floor(w_i / s), ceil(w_i / s)}

AdaRound relaxes this and descends a gradient. Here it is solved as a binary quadratic problem, by flipping one weight
at a time for as long as that helps (coordinate descent, all output channels at once). If the bias is corrected
afterwards, ``H`` is the covariance, since the mean of the error goes into the bias.

Flipping stops at a local minimum. So it starts twice, from the nearest integers and from those of error feedback (GPTQ,
Frantar et al. 2022, arXiv:2210.17323), and each output channel keeps the better result. With many taps error feedback
wins almost everywhere, and three sweeps do most of the rest: on made-up rectified inputs with 576 taps the form of the
nearest integers falls to 0.386, and to 0.381 by both starts and eight sweeps, which take four times as long. So layers
with more than :data:`MANY` taps start once.

Both go through the weights in blocks, and the rest of the row follows each block by one matrix product: the "lazy batch
updates" of GPTQ, section 3.3. The order of the steps and the exact result are those of one weight at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SWEEPS, FEW_SWEEPS = 8, 3
"""Most rounds over all weights; most layers need four. The second number is for layers with many taps."""

MANY = 1024
"""Taps above which flipping starts from error feedback alone."""

DAMPING = 0.01
"""Share of the mean variance that is added to each variance: moments come from a sample of positions."""

BLOCK = 64
"""Weights that are chosen before the rest of the row is updated."""

Floats = NDArray[np.float32]


def round_weights(steps: Floats, moments: Floats, limit: int) -> NDArray[np.int8]:
    """Return the integers (groups, outputs, taps) for real-valued ``steps`` of that shape.

    ``steps`` are the weights divided by their scale, float32. ``moments`` (groups, taps, taps) float32 is ``H`` of each
    group's inputs; its unit does not matter. ``limit`` is the largest magnitude. Each result is one of the two
    neighbors of its step, and the quadratic form is never larger than that of rounding to the nearest.
    """
    steps = np.asarray(steps, np.float32)
    damped = moments + DAMPING * np.trace(moments, axis1=1, axis2=2)[:, None, None] / moments.shape[1] * np.eye(
        moments.shape[1], dtype=np.float32
    )
    nearest, feedback = np.clip(np.rint(steps), -limit, limit), _fed_back(steps, damped, limit)
    if steps.shape[2] > MANY:
        feedback = _descended(steps, feedback, damped, limit, FEW_SWEEPS)
    else:
        nearest, feedback = (_descended(steps, start, damped, limit, SWEEPS) for start in (nearest, feedback))
    better = (_form(steps - feedback, damped) < _form(steps - nearest, damped))[:, :, None]
    return np.where(better, feedback, nearest).astype(np.int8)


def _descended(steps: Floats, rounded: Floats, damped: Floats, limit: int, sweeps: int) -> Floats:
    """Flip one weight at a time, starting from ``rounded``, for as long as that helps, or for so many ``sweeps``."""
    rounded, inexact = rounded.copy(), steps != np.floor(steps)  # an exact integer has no other neighbor
    slope = np.matmul(steps - rounded, damped, dtype=np.float32)
    for _ in range(sweeps):
        flips = 0
        for first in range(0, steps.shape[2], BLOCK):
            block = slice(first, first + BLOCK)
            # The other neighbor: one up where it was rounded down, one down where it was rounded up.
            move = np.where(rounded[:, :, block] > steps[:, :, block], np.float32(-1), np.float32(1))
            free = inexact[:, :, block] & (np.abs(rounded[:, :, block] + move) <= limit)
            taken = _flip((move * free).astype(np.float32), slope[:, :, block], damped[:, block, block])
            if taken.any():
                rounded[:, :, block] += taken
                slope -= taken @ damped[:, block]
                flips += int(np.count_nonzero(taken))
        if not flips:
            break
    return rounded


def _flip(move: Floats, slope: Floats, damped: Floats) -> Floats:
    """Return the moves that help, tap after tap, and zero elsewhere; ``move`` is zero where a weight must stay."""
    taken = np.zeros_like(move)
    # Taps first: each step of the loop reads and writes contiguous memory.
    moves, slopes = (np.ascontiguousarray(np.moveaxis(values, 2, 0)) for values in (move, slope))
    diagonal = np.diagonal(damped, axis1=1, axis2=2).T[:, :, None]
    rows = np.ascontiguousarray(damped.transpose(1, 2, 0))[:, :, :, None]
    for tap, (step, cost) in enumerate(zip(moves, diagonal, strict=True)):
        flips = np.where(2 * step * slopes[tap] - cost > 1e-7 * cost, step, np.float32(0))
        if flips.any():
            taken[:, :, tap] = flips
            slopes[tap + 1 :] -= rows[tap, tap + 1 :] * flips
    return taken


def _fed_back(steps: Floats, damped: Floats, limit: int) -> Floats:
    """Round weight after weight, and correct those that follow for each error (GPTQ, arXiv:2210.17323, section 3).

    With ``H = R R^T`` and ``R`` upper triangular, ``e^T H e`` is the sum over the weights ``t`` of
    ``(R[t, t] e[t] + sum over j < t of R[j, t] e[j]) ** 2``, so each weight is rounded such that its own term is least.
    That is GPTQ without the inverse of ``H`` (Chen et al. 2025, arXiv:2507.18553: GPTQ is Babai's nearest plane).

    If ``H`` is not positive definite, the result is the nearest integers.
    """
    low, high = (np.clip(neighbor(steps), -limit, limit) for neighbor in (np.floor, np.ceil))
    rounded = np.clip(np.rint(steps), -limit, limit)
    try:
        root = np.linalg.cholesky(damped[:, ::-1, ::-1].astype(np.float64))[:, ::-1, ::-1]
    except np.linalg.LinAlgError:
        return rounded
    share = (root / np.diagonal(root, axis1=1, axis2=2)[:, None, :]).astype(np.float32)
    error = np.zeros_like(steps)
    for first in range(0, steps.shape[2], BLOCK):
        block = slice(first, first + BLOCK)
        wanted = steps[:, :, block] + error[:, :, :first] @ share[:, :first, block]
        for inside in range(wanted.shape[2]):
            tap = first + inside
            rounded[:, :, tap] = np.clip(np.rint(wanted[:, :, inside]), low[:, :, tap], high[:, :, tap])
            error[:, :, tap] = steps[:, :, tap] - rounded[:, :, tap]
            wanted[:, :, inside + 1 :] += error[:, :, tap, None] * share[:, tap, None, tap + 1 : first + BLOCK]
    return rounded


def _form(error: Floats, damped: Floats) -> Floats:
    """Return ``e^T H e`` of each output, (groups, outputs)."""
    form: Floats = np.einsum("got,got->go", error @ damped, error)
    return form
