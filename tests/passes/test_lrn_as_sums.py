"""LRN as sums of slices gives what LRN gives, and can be put together again."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from graphnets import apply, ops

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.lrn_as_sums import lrn_as_sums, whole_lrn
from xxdeploy.runtime.engines.metadata import LRN, noted_lrn, roots
from xxdeploy.runtime.engines.ort import OrtSession

GIVEN = "g (float[n, 7, 5, 4] x) => (float[n, 7, 5, 4] y)"


def text(options: str) -> str:
    return f"{GIVEN} {{ p = Abs(x)  l = LRN<{options}>(p)  y = Neg(l) }}"


@pytest.mark.parametrize(
    ("options", "root_count"),
    [
        ("size = 5, alpha = 0.5, beta = 0.75, bias = 2.0", 2),
        ("size = 3, alpha = 1.0, beta = 0.5, bias = 0.1", 1),
        ("size = 9, alpha = 0.01", 2),  # wider than there are channels; ONNX's defaults
        ("size = 1, alpha = 0.2, beta = 0.875", 3),
    ],
)
def test_the_same(options: str, root_count: int) -> None:
    rewritten = apply(text(options), lrn_as_sums)
    assert rewritten.changed == (1,)
    assert "LRN" not in rewritten.ops
    assert rewritten.ops["Sqrt"] == root_count
    again = whole_lrn(rewritten.after)
    assert ops(again) == {"Abs": 1, "LRN": 1, "Neg": 1}
    assert not again.proto().metadata_props
    batch = np.random.default_rng(0).normal(size=(2, 7, 5, 4)).astype(np.float32)
    assert np.array_equal(OrtSession(again.to_bytes()).run(batch), OrtSession(rewritten.before.to_bytes()).run(batch))


@pytest.mark.parametrize("size", [1, 3, 9])
def test_large_images_are_added_up_by_a_band_matrix(size: int) -> None:
    large = partial(lrn_as_sums, most_values=7 * 5 * 4 - 1)
    rewritten = apply(text(f"size = {size}, alpha = 0.5, bias = 2.0"), lambda graph: large(graph))  # compares them
    assert "LRN" not in rewritten.ops
    assert "Slice" not in rewritten.ops
    assert rewritten.ops["ConvTranspose"] == 1
    assert ops(whole_lrn(rewritten.after)) == {"Abs": 1, "LRN": 1, "Neg": 1}
    assert apply(text(f"size = {size}"), lambda graph: large(graph, most_channels=6)).changed == (0,)


@pytest.mark.parametrize("options", ["size = 5, beta = 0.6", "size = 17"])
def test_what_stays(options: str) -> None:
    rewritten = apply(text(options), lrn_as_sums)
    assert rewritten.changed == (0,)
    assert not rewritten.after.proto().metadata_props
    assert whole_lrn(rewritten.after) is rewritten.after


def test_two_and_what_is_noted_of_them() -> None:
    body = f"{GIVEN} {{ l = LRN<size = 3>(x)  r = Relu(l)  y = LRN<size = 5, beta = 0.5>(r) }}"
    rewritten = apply(body, lrn_as_sums)
    assert rewritten.changed == (2,)
    (entry,) = rewritten.after.proto().metadata_props
    assert entry.key == LRN
    assert [each[0] for each in noted_lrn(entry.value).values()] == [3, 5]
    assert ops(whole_lrn(rewritten.after)) == {"LRN": 2, "Relu": 1}


def test_openvino_gets_its_own_operator_back() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    from xxdeploy.runtime.engines.openvino.session import OpenVinoSession

    rewritten = apply(f"{GIVEN} {{ p = Abs(x)  y = LRN<size = 5, alpha = 0.5, bias = 2.0>(p) }}", lrn_as_sums)
    session = OpenVinoSession(rewritten.after.to_bytes())
    kinds = [node.get_type_name() for node in session._model.get_ordered_ops()]
    assert "LRN" in kinds
    assert "Divide" not in kinds
    assert session.output_name == "y"
    batch = np.random.default_rng(0).normal(size=(3, 7, 5, 4)).astype(np.float32)
    for count in (1, 3):
        outputs = session.run(batch[:count])
        assert np.allclose(outputs, OrtSession(rewritten.before.to_bytes()).run(batch[:count]), atol=1e-5)


@pytest.mark.parametrize(
    "note",
    ["", "[]", "7", '{"y": 3}', '{"y": [5, 1, 0.75]}', '{"y": [5, 1, 0.6, 1]}', '{"y": [5, "a", 0.75, 1]}', "[" * 9999],
)
def test_damaged_notes(note: str) -> None:
    assert noted_lrn(note) == {}


def test_a_note_about_nodes_that_there_are_not() -> None:
    rewritten = apply(f"{GIVEN} {{ y = Abs(x) }}")
    proto = rewritten.after.proto()
    entry = proto.metadata_props.add()
    entry.key, entry.value = LRN, json.dumps({"y": [5, 1.0, 0.75, 1.0]})
    model = OnnxModel.from_proto(proto)
    assert ops(whole_lrn(model)) == {"Abs": 1}
    assert roots(0.6) is None
