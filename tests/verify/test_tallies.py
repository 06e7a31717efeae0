"""Errors of values, and which output has which measure."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.results import ModelOutput
from xxdeploy.verify.pictures import MaskTally, PictureTally
from xxdeploy.verify.tallies import ValueTally, tally_for


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (None, type(None)),
        (ModelOutput("probabilities", 10), type(None)),
        (ModelOutput("features", None), type(None)),
        (ModelOutput("picture", None, "image", (8, 8, 3), (0.0, 1.0)), PictureTally),
        (ModelOutput("mask", 3, "image", (8, 8, 3)), MaskTally),
        (ModelOutput("values", None, "values"), ValueTally),
    ],
)
def test_each_task_has_its_measure(output: ModelOutput | None, kind: type) -> None:
    assert type(tally_for(output)) is kind


def test_errors_have_the_unit_of_the_output() -> None:
    random = np.random.default_rng(0)
    right = (100 * random.random((200, 5))).astype(np.float32)
    errors = random.random((200, 5))
    tally = ValueTally()
    for part in (slice(0, 30), slice(30, 200)):
        tally.add(right[part], (right + errors * random.choice([-1, 1], errors.shape))[part].astype(np.float32))
    p95, mean, largest = tally.figures()
    assert [figure.name for figure in (p95, mean, largest)] == ["p95_error", "mean_error", "largest_error"]
    assert p95.value == pytest.approx(np.quantile(errors, 0.95), abs=1e-4)
    assert mean.value == pytest.approx(errors.mean(), abs=1e-4)
    assert largest.value == pytest.approx(errors.max(), abs=1e-4)
    assert tally.loss == pytest.approx(np.square(errors).mean(), abs=1e-4)
    for figure in (p95, mean):
        assert figure.interval is not None
        assert figure.interval[0] < figure.value < figure.interval[1]
        assert figure.interval[1] - figure.interval[0] < 0.05
    assert largest.interval is None


def test_an_interval_of_many_values_is_that_of_few_of_them() -> None:
    """The errors of a picture differ little from each other: the pictures decide."""
    random = np.random.default_rng(0)
    tally = ValueTally()
    tally.add(np.zeros((50, 1000), np.float32), (random.random((50, 1)) + np.zeros((50, 1000))).astype(np.float32))
    p95 = tally.figures()[0]
    assert p95.interval is not None
    assert p95.interval[0] < 0.9 < p95.value <= p95.interval[1]
