"""Which layers stay in float because INT8 makes them slower: made-up figures, and a real export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest

from xxdeploy.artifacts import OnnxModel
from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import find
from xxdeploy.pipeline import ExportPlan, costs, export
from xxdeploy.pipeline.costs import NodeCost, costs_from, leave_in_float, node_costs, proposals, slower_layers
from xxdeploy.pipeline.ladder import Climb, Goal
from xxdeploy.pipeline.workshop import Workshop
from xxdeploy.quantize.recipe import Recipe
from xxdeploy.runtime import load
from xxdeploy.verify import Comparison

FOUND = Comparison("float", "int8", 100, 20.0, 0.9, 99, 0.1, (90, 90), None)
WORSE = Comparison("float", "int8", 100, 20.0, 0.9, 50, 0.9, (90, 50), None)
BATCH = np.zeros((1, 8, 8, 4), np.float32)


def network() -> OnnxModel:
    """Two convolutions, of which the first has an activation."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) <float[4, 4, 1, 1] v, float[4, 4, 1, 1] w> {
      a = Conv(x, v)  r = Relu(a)  y = Conv(r, w) }"""
    proto = onnx.parser.parse_model(text)
    for value in proto.graph.value_info:
        if value.name in "vw":
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), value.name))
    for node in proto.graph.node:
        node.name = f"{node.output[0]}/{node.op_type}"
    del proto.graph.value_info[:]
    return OnnxModel.from_proto(proto)


def event(name: str, dur: int, size: int = 400) -> dict[str, Any]:
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "dur": dur,
        "args": {"activation_size": str(size), "output_size": str(size)},
    }  # fmt: skip


def test_a_profile_is_read_by_the_names_of_the_graph() -> None:
    events = [
        event("a/Conv_token_12", 30), event("a/Conv_token_12", 10), event("a/Conv_token_12", 20),
        event("r/Relu_nchwc", 7), {"cat": "Session", "name": "run", "dur": 1},
    ]  # fmt: skip
    assert costs_from(events) == {"a/Conv": NodeCost(0.02, 200), "r/Relu": NodeCost(0.007, 200)}


def test_what_is_slower_counts_activations_and_conversions() -> None:
    floats = {"r/Relu": NodeCost(0.5, 100_000), "y/Conv": NodeCost(0.2, 100_000)}
    ours = {"a/Conv": NodeCost(1.0, 0), "y/Conv": NodeCost(0.3, 0)}
    lost = slower_layers(network(), floats, ours)
    assert list(lost) == ["a/Conv"]  # the other one loses less than its conversions take
    assert lost["a/Conv"] == pytest.approx(1.0 - 0.5 - 0.13)
    assert slower_layers(network(), {}, ours) == {}


def test_the_worst_are_proposed_first() -> None:
    assert proposals({}) == []
    assert proposals({"a": 6.0, "b": 3.0, "c": 1.0}) == [
        frozenset("a"), frozenset("ab"), frozenset("abc"),
    ]  # fmt: skip
    assert proposals({"a": 1.0}) == [frozenset("a")]


def test_a_real_profile_has_the_layers() -> None:
    model = network()
    found = node_costs(model, np.ones((1, 4, 8, 8), np.float32))
    assert all(each.milliseconds >= 0 for each in found.values())
    slow = {name: NodeCost(9.0, 0) for name in ("a/Conv", "y/Conv")}
    assert set(slower_layers(model, found, slow)) == {"a/Conv", "y/Conv"}


class Fake:
    """A workshop that writes recipes down."""

    def float_model(self, _recipe: Recipe) -> OnnxModel:
        return OnnxModel(b"float")

    def build(self, recipe: Recipe) -> OnnxModel:
        return OnnxModel(repr(recipe.float_layers).encode())


@pytest.mark.parametrize(
    ("lost", "ratios", "judged", "taken", "said"),
    [
        ({}, [], FOUND, None, "no layer is faster in float"),
        ({"a": 6.0, "b": 3.0}, [0.9, 0.8], FOUND, ("a", "b"), "0.80x of its time"),
        ({"a": 6.0, "b": 3.0}, [0.8, 0.9], FOUND, ("a",), "0.80x of its time"),
        ({"a": 6.0}, [0.99], FOUND, None, "the whole graph is not faster"),
        ({"a": 6.0}, [0.8], WORSE, None, "the whole graph is not faster"),
    ],
)
def test_the_whole_graph_decides(
    monkeypatch: pytest.MonkeyPatch,
    lost: dict[str, float],
    ratios: list[float],
    judged: Comparison,
    taken: tuple[str, ...] | None,
    said: str,
) -> None:
    left = list(ratios)
    monkeypatch.setattr(costs, "node_costs", lambda *_: {})
    monkeypatch.setattr(costs, "slower_layers", lambda *_: lost)
    monkeypatch.setattr(costs, "_race", lambda *_: (left.pop(0), 8.0, 20.0))
    before = Climb(Recipe(), OnnxModel(b"int8"), FOUND, True, ())
    goal = Goal(agreement=0.98)
    after = leave_in_float(before, cast(Workshop, Fake()), lambda _: judged, goal, BATCH, lambda _: None)
    assert said in after.said[0]
    assert after.recipe.float_layers == (taken or ())
    assert [rung.taken for rung in after.rungs] == ([] if not lost else [taken is not None])
    assert after.model.data == (b"int8" if taken is None else repr(taken).encode())


def test_it_is_about_int8_on_a_processor() -> None:
    with pytest.raises(UsageError) as caught:
        ExportPlan("fp32", by_cost=True)
    assert caught.value.code == "int8-only"


@pytest.mark.slow
def test_a_bundle(tmp_path: Path) -> None:
    result = export(find("lenet"), ExportPlan("int8", "sample", by_cost=True, pictures=False), tmp_path / "out")
    assert any(each.startswith(costs.RUNG) for each in result.processors)
    assert load(result.bundle, selftest=True).variant.precision == "int8"
