from __future__ import annotations

import numpy as np
from user_nets import net

from xxdeploy.convert.trace import scale_and_shift, trace


def test_the_graph_holds_no_weights() -> None:
    model = net(lambda layers, x: layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(x)))
    traced = trace(model)
    constants = [
        operation.get_attr("value") for operation in traced.graph.get_operations() if operation.type == "Const"
    ]
    assert max(int(np.prod([dim.size for dim in constant.tensor_shape.dim])) for constant in constants) <= 4
    placeholders = {
        operation.outputs[0].name for operation in traced.graph.get_operations() if operation.type == "Placeholder"
    }
    assert placeholders == {*traced.inputs, *traced.weights}
    arrays = [np.asarray(array) for array in traced.weights.values()]
    expected = [*model.get_layer("conv").get_weights(), *scale_and_shift(model.get_layer("norm"))]
    for array in expected:
        assert any(array.shape == other.shape and (array == other).all() for other in arrays)


def test_scale_and_shift_are_the_batch_normalization() -> None:
    model = net(lambda layers, x: layers.BatchNormalization(name="norm")(x))
    layer = model.get_layer("norm")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
    scale, shift = scale_and_shift(layer)
    np.testing.assert_allclose(images * scale + shift, layer(images, training=False), rtol=1e-5, atol=1e-6)
