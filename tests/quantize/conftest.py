"""The network with each kind of integer layer, and its ranges, made once for all tests of this folder."""

from __future__ import annotations

import pytest
from quantnets import batches, images, residual

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate
from xxdeploy.results import Ranges


@pytest.fixture(scope="session")
def model() -> OnnxModel:
    return residual()


@pytest.fixture(scope="session")
def calibrated(model: OnnxModel) -> Ranges:
    return calibrate(model, batches(images()), data_digest="images")
