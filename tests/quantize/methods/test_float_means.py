"""The mean of each channel, measured once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from quantnets import images, residual

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize.methods.float_means import FloatMeans, channel_means


def test_each_tensor_is_measured_once_image_by_image() -> None:
    model, batch, passes = residual(), images(7), []

    def batches() -> Iterator[NDArray[np.float32]]:
        passes.append(len(batch))
        yield from (batch[:4], batch[4:])

    means = FloatMeans(model, batches)
    whole = Observer(Graph(model), ["stem", "logits"]).run(batch)
    for name in ("stem", "logits"):
        np.testing.assert_allclose(means([name])[name], channel_means(whole[name]), atol=1e-5)
        assert means([name])[name].shape[0] == 7
    assert passes == [7, 7]
    assert set(means(["logits", "stem"])) == {"stem", "logits"}
    assert passes == [7, 7]
