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


def test_the_means_of_inputs_are_those_of_the_output_without_its_bias() -> None:
    """A layer is linear: the mean of its output is its output for the mean of what its weights read."""
    model, batch = residual(), images(5)
    graph, layers = Graph(model), ["stem", "deep", "thin", "grouped", "logits"]
    means = FloatMeans(model, lambda: [batch])
    inputs, outputs = means.of_inputs(layers), means(layers)
    for name in layers:
        node = graph.producers()[name]
        weights = graph.constants[node.input[1]].reshape(len(inputs[name]), -1, inputs[name].shape[1])
        made = np.einsum("got,gt->go", weights, inputs[name]).reshape(-1)
        bias = graph.constants[node.input[2]] if len(node.input) > 2 else 0.0
        np.testing.assert_allclose(made + bias, outputs[name].mean(axis=0), atol=1e-5, err_msg=name)
