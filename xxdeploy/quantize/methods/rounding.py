"""Round each weight up or down so that the layer's output changes least, instead of to the nearest integer.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv:2004.10568: with ``e`` the
rounding errors of the weights of one output channel and ``x`` the values they are multiplied with, the error of the
output is ``e . x``. Equation 13 is minimized::

    E[(e . x)^2] = e^T H e,    H = E[x x^T],    e_i = w_i / s - q_i,    q_i in {floor(w_i / s), ceil(w_i / s)}

AdaRound relaxes this and descends a gradient. Here it is solved as a binary quadratic problem, by flipping one weight
at a time for as long as that helps (coordinate descent, all output channels at once). If the bias is corrected
afterwards, ``H`` is the covariance, since the mean of the error goes into the bias.

Flipping stops at a local minimum. So it starts twice, from the nearest integers and from those of error feedback (GPTQ,
Frantar et al. 2022, arXiv:2210.17323), and each output channel keeps the better result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SWEEPS = 8
"""Most rounds over all weights; most layers need four."""

DAMPING = 0.01
"""Share of the mean variance that is added to each variance: moments come from a sample of positions."""

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
    nearest = _descended(steps, np.clip(np.rint(steps), -limit, limit), damped, limit)
    feedback = _descended(steps, _fed_back(steps, damped, limit), damped, limit)
    better = (_form(steps - feedback, damped) < _form(steps - nearest, damped))[:, :, None]
    return np.where(better, feedback, nearest).astype(np.int8)


def _descended(steps: Floats, rounded: Floats, damped: Floats, limit: int) -> Floats:
    """Flip one weight at a time, starting from ``rounded``, for as long as that helps."""
    low, rounded = np.floor(steps), rounded.copy()
    slope = (steps - rounded) @ damped
    diagonal = np.diagonal(damped, axis1=1, axis2=2)
    for _ in range(SWEEPS):
        flips = 0
        for tap in range(steps.shape[2]):
            # The other neighbor: one up where it was rounded down, one down where it was rounded up.
            move = np.where(rounded[:, :, tap] > low[:, :, tap], -1.0, 1.0).astype(np.float32)
            gain = 2 * move * slope[:, :, tap] - diagonal[:, tap, None]
            allowed = np.abs(rounded[:, :, tap] + move) <= limit
            # An exact integer has no other neighbor: its error of zero would become one.
            group, output = np.nonzero((gain > 1e-7 * diagonal[:, tap, None]) & allowed & (steps != low)[:, :, tap])
            if group.size:
                taken = move[group, output]
                rounded[group, output, tap] += taken
                slope[group, output] -= taken[:, None] * damped[group, tap]
                flips += group.size
        if not flips:
            break
    return rounded


def _fed_back(steps: Floats, damped: Floats, limit: int) -> Floats:
    """Round weight after weight, and correct those that follow for each error (GPTQ, arXiv:2210.17323, section 3).

    If the moments cannot be inverted, the result is the nearest integers.
    """
    low, high = (np.clip(neighbor(steps), -limit, limit) for neighbor in (np.floor, np.ceil))
    rounded = np.clip(np.rint(steps), -limit, limit)
    try:
        inverse = np.linalg.inv(damped.astype(np.float64))
        upper = np.linalg.cholesky(inverse).swapaxes(1, 2).astype(np.float32)
    except np.linalg.LinAlgError:
        return rounded
    wanted = steps.copy()
    for tap in range(steps.shape[2]):
        rounded[:, :, tap] = np.clip(np.rint(wanted[:, :, tap]), low[:, :, tap], high[:, :, tap])
        error = (wanted[:, :, tap] - rounded[:, :, tap]) / upper[:, tap, tap, None]
        wanted[:, :, tap:] -= error[:, :, None] * upper[:, None, tap, tap:]
    return rounded


def _form(error: Floats, damped: Floats) -> Floats:
    """Return ``e^T H e`` of each output, (groups, outputs)."""
    form: Floats = np.einsum("got,got->go", error @ damped, error)
    return form
