"""TopK in the graph: the same classes and values, in both engines, and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tiny_bundle

from xxdeploy.errors import ConversionError, EngineError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.lowering.embed_topk import embed_topk, remove_topk
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.select import LITERT, installed_engines


def test_what_the_model_gives_is_what_sorting_gives() -> None:
    model = OnnxModel(tiny_bundle.model_bytes())
    batch = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    every = OrtSession(model.to_bytes()).run(batch)
    best = embed_topk(model, 2, every.shape[1])
    session = ort.InferenceSession(best.to_bytes(), providers=["CPUExecutionProvider"])
    values, classes = session.run(None, {session.get_inputs()[0].name: batch})
    assert [output.name for output in session.get_outputs()] == ["probabilities", "probabilities_classes"]
    assert np.array_equal(classes, np.argsort(-every, axis=1, kind="stable")[:, :2])
    assert np.array_equal(values, np.take_along_axis(every, classes, axis=1))
    ours = OrtSession(best.to_bytes())
    assert (ours.top_k, ours.output_names) == (2, ("probabilities",))
    spread = ours.run(batch)
    assert spread.shape == every.shape
    assert np.array_equal(np.take_along_axis(spread, classes, axis=1), values)
    assert np.allclose(spread.sum(axis=1), 1, atol=1e-6)
    assert np.array_equal(OrtSession(remove_topk(best).to_bytes()).run(batch), every)
    assert remove_topk(model) is model


def test_a_number_of_classes_that_is_open_is_refused() -> None:
    """A damaged file, whose TopK takes as many as the batch is large."""
    proto, arrays = embed_topk(OnnxModel(tiny_bundle.model_bytes()), 2, 4).split()
    for output in proto.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = "open"
    proto.graph.node[-1].input[1] = "taken"
    shape = onnx.helper.make_node("Shape", [proto.graph.input[0].name], ["taken"], "taken", start=0, end=1)
    proto.graph.node.insert(0, shape)
    with pytest.raises(EngineError) as caught:
        OrtSession(OnnxModel.join(proto, arrays).to_bytes())
    assert caught.value.code == "engine-signature"


@pytest.mark.parametrize(("count", "classes"), [(0, 4), (5, 4)])
def test_what_cannot_be_taken(count: int, classes: int) -> None:
    with pytest.raises(ConversionError) as caught:
        embed_topk(OnnxModel(tiny_bundle.model_bytes()), count, classes)
    assert caught.value.code == "top-k-outputs"


@pytest.mark.slow
def test_a_bundle_of_it_predicts_and_tests_itself_in_every_engine(
    tmp_path: Path, images: Path, lenet_options: ExportOptions, lenet_bundle: Path
) -> None:
    bundle = export(find("lenet"), lenet_options.changed(top_k=3), tmp_path / "top").bundle
    picture = next((images / "plain").iterdir())
    for engine in set(installed_engines()) - {LITERT}:  # the bundle has no LiteRT file
        runtime = load(bundle, engine=engine, tuning="off", selftest=True)
        wanted = load(lenet_bundle, engine=engine, tuning="off").predict(picture, top=3)
        assert runtime.predict(picture, top=3) == wanted
        assert len(runtime.predict(picture, top=10)) == 10
