"""What stages are held to, and in which batches pictures go through them."""

from __future__ import annotations

import numpy as np

from xxdeploy.exporter.stages import tolerance_for, uneven_batches
from xxdeploy.verify import FP16_SCORES, INT8_FEATURES, INT8_PROBABILITIES, INT8_SCORES


def test_batches_are_uneven_and_hold_every_image_once() -> None:
    images = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1)
    batches = uneven_batches([images[:8], images[8:16], images[16:]], 18)
    assert [len(batch) for batch in batches] == [1, 8, 8, 1]
    np.testing.assert_array_equal(np.concatenate(batches), images[:18])


def test_random_weights_are_judged_by_their_scores() -> None:
    assert tolerance_for("classification", "int8", trained=False) is INT8_SCORES
    assert tolerance_for("classification", "fp16", trained=False) is FP16_SCORES
    assert tolerance_for("classification", "int8", trained=True) is INT8_PROBABILITIES
    assert tolerance_for("features", "int8", trained=False) is INT8_FEATURES
