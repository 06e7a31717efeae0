"""The exact range of every tensor, whatever reads it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.calibration.extremes import observe_extremes
from xxdeploy.results import Progress

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2, 2, 1] image) => (float[n, 4] features)
<float[1] large = {1000.0}, int64[2] shape = {-1, 4}>
{
  scaled = Mul(image, large)
  cut = Relu(scaled)
  features = Reshape(cut, shape)
}
"""


def model() -> OnnxModel:
    proto = onnx.parser.parse_model(TEXT)
    return OnnxModel(proto.SerializeToString())


def test_all_tensors_and_all_images_count() -> None:
    images = np.zeros((3, 2, 2, 1), np.float32)
    images[0, 0, 0, 0], images[2, 1, 1, 0] = -80.0, 5.0
    seen: list[Progress] = []
    found = observe_extremes(model(), lambda: iter([images[:2], images[2:]]), total=3, on_progress=seen.append)
    assert found.ranges == {
        "image": (-80.0, 5.0),
        "scaled": (-80000.0, 5000.0),  # Relu hides it, float16 would not hold it
        "cut": (0.0, 5000.0),
        "features": (0.0, 5000.0),
    }
    assert (found.images, found.method) == (3, "minmax")
    assert [each.done for each in seen] == [1, 2, 3]


def test_nothing_to_look_at_and_values_that_are_no_numbers() -> None:
    with pytest.raises(UsageError) as caught:
        observe_extremes(model(), lambda: iter(()))
    assert caught.value.code == "no-calibration-images"
    with pytest.raises(ConversionError) as failed:
        observe_extremes(model(), lambda: iter([np.full((1, 2, 2, 1), 3e38, np.float32)]))
    assert failed.value.code == "non-finite-range"
