"""Histograms as a value: they survive their file, and every calibrator chooses from them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from quantnets import batches, images, residual

from xxdeploy.errors import UsageError
from xxdeploy.quantize.calibration.calibrate import observe_histograms
from xxdeploy.quantize.calibration.histograms import Histograms, choose_ranges


@pytest.fixture(scope="module")
def whole() -> Histograms:
    return observe_histograms(residual(), batches(images(24)), data_digest="d")


def test_histograms_survive_the_file(whole: Histograms) -> None:
    again = Histograms.from_bytes(whole.to_bytes())
    assert again.tensors.keys() == whole.tensors.keys()
    for name, values in whole.tensors.items():
        other = again.tensors[name]
        np.testing.assert_array_equal(values.counts, other.counts)
        for field in dataclasses.fields(values):
            if field.name != "counts":
                assert getattr(values, field.name) == getattr(other, field.name)


@pytest.mark.parametrize("method", ["minmax", "moving-average", "percentile-99.9", "entropy", "mse"])
def test_each_method_chooses_a_range_within_the_extremes(whole: Histograms, method: str) -> None:
    ranges = choose_ranges(whole, method)
    assert (ranges.method, ranges.images, ranges.data_digest) == (method, 24, "d")
    assert ranges.ranges.keys() == whole.tensors.keys()
    for name, (low, high) in ranges.ranges.items():
        assert min(whole.tensors[name].low, 0) <= low <= high <= max(whole.tensors[name].high, 0)


def test_an_unknown_method_is_refused(whole: Histograms) -> None:
    with pytest.raises(UsageError) as caught:
        choose_ranges(whole, "guess")
    assert caught.value.code == "unknown-calibrator"
