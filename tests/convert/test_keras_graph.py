from __future__ import annotations

from typing import Any

import pytest
from user_nets import net

from xxdeploy.convert.keras_graph import calls, graph, is_model, layer_paths, single_input, source
from xxdeploy.convert.keras_loader import load_keras


@pytest.fixture
def nested() -> Any:
    keras = load_keras()
    inner = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, name="conv")], name="inner")
    return net(lambda _, x: inner(x))


def test_layers_of_a_nested_model_have_its_name_in_front(nested: Any) -> None:
    paths = [path for path, _ in layer_paths(nested)]
    assert "inner/conv" in paths
    assert [path.rpartition("/")[2] for path in paths] == [layer.name for _, layer in layer_paths(nested)]


def test_calls_come_after_their_inputs(nested: Any) -> None:
    written: set[int] = set()
    for call in calls(nested):
        assert all(id(tensor) in written for tensor in call.input_tensors)
        written.update(id(tensor) for tensor in call.output_tensors)


def test_a_single_input_and_the_source_of_an_output(nested: Any) -> None:
    inner = nested.get_layer("inner")
    assert is_model(inner)
    assert not is_model(nested.layers[-1])
    assert single_input(inner) is graph(inner).inputs[0]
    operation, call = source(nested.outputs[0])
    assert operation is nested.layers[-1]
    assert call.output_tensors[0] is nested.outputs[0]
