"""Engines that are really built, by TensorRT for RTX, without a GPU; and those that must not be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from enginenets import MACS, ranges, rtx, small, small_int8

from xxdeploy.engine import Batch, EngineOptions, build_engine
from xxdeploy.engine.library import Library, driver_problem, load_library
from xxdeploy.errors import EngineError, UsageError, XXDeployError
from xxdeploy.lowering.cast_fp16 import cast_fp16
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import quantize, scheme
from xxdeploy.results import Progress

pytestmark = rtx
CARDS = ("sm86", "sm89")


def models() -> dict[str, OnnxModel]:
    return {"fp32": small(), "fp16": cast_fp16(small()).model, "int8": small_int8()}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_all_the_work_is_in_the_precision_that_was_asked(precision: str) -> None:
    model = models()[precision]
    engine = build_engine(model, EngineOptions(precision=precision, gpus=CARDS))
    assert engine.facts["shares"] == {precision: 1.0}
    assert engine.facts["macs"] == MACS
    assert engine.facts["depth"] == "network"
    assert engine.facts["layers"] == 5
    assert engine.size > 10_000
    assert engine.model_digest == model.digest


@pytest.mark.parametrize(
    ("given", "asked"), [("fp32", "fp16"), ("fp32", "int8"), ("fp16", "int8"), ("int8", "fp16"), ("int8", "fp32")]
)
def test_another_precision_than_the_graph_has_is_no_engine(given: str, asked: str) -> None:
    with pytest.raises(EngineError) as caught:
        build_engine(models()[given], EngineOptions(precision=asked, gpus=CARDS))
    assert caught.value.code == "engine-precision"
    assert "0.0 %" in caught.value.message
    assert "last/Conv" in caught.value.message  # the layer with most work comes first


def without_pairs(model: OnnxModel, layers: tuple[str, ...], *, weights: bool = True) -> OnnxModel:
    """Take Q/DQ away in front of ``layers``: the data's, and with ``weights`` the integer weights, too."""
    proto = model.proto()
    made = {node.output[0]: node for node in proto.graph.node}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.name.partition("/")[0] not in layers:
            continue
        node.input[0] = made[made[node.input[0]].input[0]].input[0]
        if weights:
            integers, scale, _ = (values[name] for name in made[node.input[1]].input)
            shape = [1, -1] if node.op_type == "Gemm" else [-1, 1, 1, 1]
            floats = integers.astype(np.float32) * scale.reshape(shape)
            node.input[1] = f"{node.name}_float"
            proto.graph.initializer.append(onnx.numpy_helper.from_array(floats, node.input[1]))
    onnx.checker.check_model(proto, full_check=True)
    return OnnxModel.from_proto(proto)


@pytest.mark.parametrize("weights", [True, False])
def test_without_its_pairs_the_heaviest_layer_fails_the_proof(weights: bool) -> None:
    model = without_pairs(small_int8(), ("last",), weights=weights)
    with pytest.raises(EngineError) as caught:
        build_engine(model, EngineOptions(precision="int8", gpus=CARDS))
    assert caught.value.code == "engine-precision"
    assert f"last/Conv ({'fp32' if weights else 'mixed'})" in caught.value.message


def test_a_small_layer_in_float_is_allowed_and_named() -> None:
    engine = build_engine(without_pairs(small_int8(), ("logits",)), EngineOptions(precision="int8", gpus=CARDS))
    assert engine.facts["shares"] == {"int8": round((MACS - 320) / MACS, 6), "fp32": round(320 / MACS, 6)}
    assert engine.facts["float_layers"] == ["logits/Gemm"]


def test_a_layer_that_cannot_be_cast_counts_as_float() -> None:
    cast = cast_fp16(small(), float_layers=frozenset({"last/Conv"})).model
    with pytest.raises(EngineError, match=r"last/Conv \(fp32\)"):
        build_engine(cast, EngineOptions(precision="fp16", gpus=CARDS))


def test_the_cpus_layout_does_not_even_parse() -> None:
    """What the linter refuses first: here is what the library itself would say."""
    model = small()
    with pytest.raises(EngineError) as caught:
        build_engine(
            quantize(model, ranges(model), scheme("static-w8c-a8i")), EngineOptions(precision="int8", gpus=CARDS)
        )
    assert caught.value.code == "engine-parse"


def test_rubbish_is_an_error_and_no_crash() -> None:
    for content in (b"x", b"\x08\x07" * 40, small().to_bytes()[:300]):
        with pytest.raises(XXDeployError):
            build_engine(OnnxModel(content), EngineOptions(gpus=CARDS))


def test_batches_of_the_profile_must_be_the_graphs() -> None:
    proto = small().proto()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    fixed = OnnxModel.from_proto(proto)
    with pytest.raises(UsageError) as caught:
        build_engine(fixed, EngineOptions(gpus=CARDS, batch=Batch(1, 4, 4)))
    assert caught.value.code == "batch-fixed"
    assert build_engine(fixed, EngineOptions(gpus=CARDS, batch=Batch(4, 4, 4))).size


def test_progress_is_told_and_ends() -> None:
    told: list[Progress] = []
    build_engine(small(), EngineOptions(gpus=("sm86",)), on_progress=told.append)
    assert told[0].done == 0
    assert told[-1].done == told[-1].total
    assert sum(note.done == note.total for note in told if note.step == told[-1].step) == 1


def test_a_stop_from_the_progress_ends_the_build() -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(small(), EngineOptions(gpus=("sm86",)), on_progress=stop)


def test_options_reach_the_builder() -> None:
    plain = build_engine(small(), EngineOptions(gpus=("sm86",)))
    options = EngineOptions(gpus=("sm86",), any_version=True, workspace=64 << 20)
    assert build_engine(small(), options).plan != plain.plan


@pytest.fixture
def no_gpu() -> Library:
    library = load_library("tensorrt-rtx")
    if driver_problem(library) is None:
        pytest.skip("there is a GPU here")
    return library


def test_without_a_gpu_the_cards_must_be_named(no_gpu: Library) -> None:
    with pytest.raises(UsageError) as caught:
        build_engine(small(), EngineOptions())
    assert caught.value.code == "gpu-needed"


@pytest.mark.parametrize("option", ["strip", "refit"])
def test_exchangeable_weights_need_a_gpu(no_gpu: Library, option: str) -> None:
    options = EngineOptions(gpus=CARDS, strip=option == "strip", refit=option == "refit")
    with pytest.raises(XXDeployError) as caught:
        build_engine(small(), options)
    assert caught.value.code == "no-gpu"
