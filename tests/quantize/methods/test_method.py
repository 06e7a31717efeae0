from __future__ import annotations

import numpy as np
import pytest
from quantnets import batches, images, reconstructed, residual

from xxdeploy.quantize import Scheme, calibrate, quantize
from xxdeploy.quantize.methods.method import Draft
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt


def test_a_draft_without_ranges_cannot_become_integers() -> None:
    with pytest.raises(ValueError, match="is not calibrated"):
        Draft(residual()).quantized(Scheme())


def test_a_draft_is_written_with_its_ranges_and_its_rounding() -> None:
    model, scheme = residual(), Scheme(signed=True, symmetric=True)
    ranges = calibrate(model, batches(images()), data_digest="d")
    draft = reconstructed(model, ranges, scheme, batches(images()), rounding=True)
    assert draft.quantized(scheme) == quantize(draft.model, ranges, scheme, rounding=draft.rounding)
    assert draft.quantized(scheme) != quantize(draft.model, ranges, scheme)
    written = draft.quantized(scheme, quantize_for_tensorrt)
    assert written == quantize_for_tensorrt(draft.model, ranges, scheme, rounding=draft.rounding)


def test_a_method_leaves_the_given_draft_as_it_was() -> None:
    model = residual()
    before, ranges = model.digest, calibrate(model, batches(images()), data_digest="d")
    rounding = {"elsewhere": np.zeros(1, np.int8)}
    draft = Draft(model, ranges, rounding)
    assert reconstructed(model, ranges, Scheme(), batches(images())).model != model
    assert (draft.model.digest, draft.ranges, draft.rounding) == (before, ranges, rounding)
