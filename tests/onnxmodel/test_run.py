"""One session starter: inner tensors, large weights through a file, and errors with a code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphnets import parse

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.run import GraphSession, Observer

TEXT = "g (float[n, 2] a) => (float[n, 2] c) <float[2] w = {3, 4}> { b = Mul(a, w) c = Relu(b) }"
BATCH = np.array([[-1, 2]], np.float32)


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("large", [1 << 30, 0])
def test_a_graph_through_a_file_is_the_same(optimize: bool, large: int) -> None:
    session = GraphSession(*parse(TEXT).split(), optimize=optimize, large=large)
    assert session.run(["c"], {"a": BATCH})[0].tolist() == [[0, 8]]


@pytest.mark.parametrize("optimize", [True, False])
def test_inner_tensors_are_returned_by_name_with_the_input(optimize: bool) -> None:
    values = Observer(Graph(parse(TEXT)), ["a", "b"], optimize=optimize).run(BATCH)
    assert {name: value.tolist() for name, value in values.items()} == {"a": [[-1, 2]], "b": [[-3, 8]]}


def test_nothing_but_the_input_is_not_run() -> None:
    assert list(Observer(Graph(parse(TEXT)), ["a"]).run(BATCH)) == ["a"]


@pytest.mark.parametrize("feeds", [{}, {"a": np.zeros((1, 3), np.float32)}])
def test_feeds_that_do_not_fit_are_an_error(feeds: dict[str, Any]) -> None:
    session = GraphSession(*parse(TEXT).split())
    with pytest.raises(ConversionError) as caught:
        session.run(["c"], feeds)
    assert caught.value.code == "calibration-run"


def test_a_graph_that_cannot_be_loaded_is_an_error() -> None:
    proto, arrays = parse(TEXT).split()
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ConversionError) as caught:
        GraphSession(proto, arrays)
    assert caught.value.code == "calibration-run"
