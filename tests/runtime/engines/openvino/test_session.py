"""OpenVINO behind the seam: the same answers and the same errors as ONNX Runtime."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
import tiny_bundle
from quantnets import parse

from xxdeploy.errors import EngineError, MissingDependencyError, UsageError
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.openvino.session import OpenVinoSession, has_bf16
from xxdeploy.runtime.engines.ort import OrtSession

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed (it has wheels for some systems)"
)
BATCH = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
QDQ = """
<ir_version: 8, opset_import: ["" : 17]>
q (float[batch, 8, 8, 3] image) => (float[batch, 4] probabilities)
<float scale = {0.02}, uint8 zero = {128}, float[4] wscale = {0.011, 0.012, 0.013, 0.014}, int8[4] wzero = {0, 0, 0, 0},
 int64[2] axes = {2, 3}, float oscale = {0.05}>
{
 nchw = Transpose<perm=[0, 3, 1, 2]>(image)
 a = QuantizeLinear(nchw, scale, zero)
 b = DequantizeLinear(a, scale, zero)
 w = DequantizeLinear<axis=0>(weights, wscale, wzero)
 c = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(b, w)
 d = QuantizeLinear(c, oscale, zero)
 e = DequantizeLinear(d, oscale, zero)
 pooled = GlobalAveragePool(e)
 features = Squeeze(pooled, axes)
 probabilities = Softmax<axis=-1>(features)
}
"""


def int8_model() -> bytes:
    """A convolution in INT8, written as Q/DQ pairs."""
    model = onnx.parser.parse_model(QDQ)
    weights = np.random.default_rng(1).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@needs_openvino
@pytest.mark.parametrize(("model", "tolerance"), [(tiny_bundle.model_bytes(), 1e-5), (int8_model(), 0.02)])
def test_the_answers_of_onnxruntime(model: bytes, tolerance: float) -> None:
    ours, other = OpenVinoSession(model, name="mine", threads=1), OrtSession(model)
    assert (ours.name, ours.input_name, ours.output_name) == ("mine", other.input_name, other.output_name)
    for batch in (BATCH, BATCH[:1], BATCH[:2], BATCH[1:2]):
        answer = ours.run(batch)
        assert answer.dtype == np.float32
        assert np.allclose(answer, other.run(batch), atol=tolerance)


@needs_openvino
def test_the_answer_is_not_overwritten_by_the_next() -> None:
    session = OpenVinoSession(tiny_bundle.model_bytes(), threads=1)
    first = session.run(BATCH[:1])
    kept = first.copy()
    session.run(BATCH[1:2])
    assert np.array_equal(first, kept)


@needs_openvino
def test_threads_and_hint_reach_openvino() -> None:
    hint = "bf16" if has_bf16() else "f32"
    session = OpenVinoSession(tiny_bundle.model_bytes(), threads=1, hint=hint)
    compiled = session._single.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == hint


@needs_openvino
def test_several_threads_may_call() -> None:
    session = OpenVinoSession(tiny_bundle.model_bytes(), threads=1)
    expected = [session.run(BATCH[index : index + 1]) for index in range(3)]
    wrong: list[int] = []

    def call(index: int) -> None:
        answers = (session.run(BATCH[index : index + 1]) for _ in range(50))
        wrong.extend(index for answer in answers if not np.array_equal(answer, expected[index]))

    callers = [threading.Thread(target=call, args=(index,)) for index in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@needs_openvino
@pytest.mark.parametrize("model", [b"not a model", tiny_bundle.model_bytes()[:200], b"<?xml version='1.0'?><net/>"])
def test_damaged_models_are_refused(model: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError) as caught:
        OpenVinoSession(model, name="mine")
    assert caught.value.code == "engine-load"
    assert "mine" in caught.value.message
    assert ".cpp" not in caught.value.message
    assert capfd.readouterr() == ("", "")


@needs_openvino
def test_other_signatures_are_refused() -> None:
    text = "(float[n, 2] a, float[n, m] b) => (float[n, 2] c) { c = Add(a, b) }"  # m is known too late
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    with pytest.raises(EngineError) as caught:
        OpenVinoSession(model.SerializeToString())
    assert caught.value.code == "engine-signature"


@needs_openvino
@pytest.mark.parametrize("batch", [np.zeros((2, 9, 8, 3), np.float32), BATCH.astype(np.float64), BATCH[0], BATCH[:0]])
def test_a_batch_that_does_not_fit(batch: np.ndarray) -> None:
    session = OpenVinoSession(tiny_bundle.model_bytes(), name="mine")
    with pytest.raises(EngineError) as caught:
        session.run(batch)
    assert caught.value.code == "engine-run"
    assert "mine" in caught.value.message


def test_options_out_of_range() -> None:
    for options, code in (({"threads": 0}, "threads-invalid"), ({"hint": "f8"}, "hint-invalid")):
        with pytest.raises(UsageError) as caught:
            OpenVinoSession(tiny_bundle.model_bytes(), **options)
        assert caught.value.code == code


def test_weights_in_another_file_are_refused() -> None:
    model = onnx.load_model_from_string(tiny_bundle.model_bytes())
    model.graph.initializer[0].external_data.add(key="location", value="elsewhere.bin")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(EngineError) as caught:
        OpenVinoSession(model.SerializeToString())
    assert caught.value.code == "engine-external-data"


def test_without_openvino_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError) as caught:
        has_bf16()
    assert "xxdeploy[openvino]" in caught.value.hint


@needs_openvino
def test_load_with_the_engine_by_name(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    runtime = load(bundle, engine="openvino", threads=1, selftest=True)
    assert runtime.session.name == "openvino-fp32"
    assert runtime.settings is not None
    assert str(runtime.settings) == "openvino, 1 thread, f32"
    image = np.full((8, 8, 3), 77, np.uint8)
    assert np.allclose(runtime.probabilities(image), load(bundle).probabilities(image), atol=1e-5)


@needs_openvino
def test_what_was_compiled_is_kept_and_a_damaged_copy_is_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = OpenVinoSession(int8_model(), threads=1, cache=tmp_path / "kept")
    wanted = first.run(BATCH[:1])
    (blob,) = (tmp_path / "kept").glob("*.blob")
    np.testing.assert_array_equal(
        OpenVinoSession(int8_model(), threads=1, cache=tmp_path / "kept").run(BATCH[:1]), wanted
    )
    for damaged in (b"", b"<xml/>", blob.read_bytes()[:-100], bytes(1000)):
        blob.chmod(0o600)
        blob.write_bytes(damaged)
        again = OpenVinoSession(int8_model(), threads=1, cache=tmp_path / "kept")
        np.testing.assert_array_equal(again.run(BATCH[:1]), wanted)
    (tmp_path / "file").write_text("no folder")
    nowhere = OpenVinoSession(int8_model(), threads=1, cache=tmp_path / "file" / "kept")
    np.testing.assert_array_equal(nowhere.run(BATCH[:1]), wanted)
    assert "cannot use" in caplog.text


@needs_openvino
def test_load_keeps_what_was_compiled_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XXDEPLOY_CACHE", str(tmp_path / "cache"))
    bundle = tiny_bundle.make(tmp_path / "bundle")
    load(bundle)
    assert not (tmp_path / "cache").exists()
    load(bundle, engine="openvino")
    assert list((tmp_path / "cache" / "openvino").iterdir())


RECURRENT = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4, 5, 3] image) => (float[n, 4, 6] y)
{ x = Transpose<perm = [0, 3, 1, 2]>(image) c = Conv(x, w) q = QuantizeLinear(c, s, z) d = DequantizeLinear(q, s, z)
  p = Transpose<perm = [2, 0, 3, 1]>(d) r = Reshape(p, t) l = LSTM<hidden_size = 6>(r, v, u) e = Squeeze(l, a)
  y = Transpose<perm = [1, 0, 2]>(e) }"""


def test_recurrent_layers_in_an_int8_file_are_refused() -> None:
    """OpenVINO 2026.4 gave answers that were 0.996 off for such a file."""
    numbers = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    arrays: dict[str, Any] = {
        "w": numbers[:6].reshape(2, 3, 1, 1), "s": np.array(0.05, np.float32), "z": np.array(128, np.uint8),
        "t": np.array([4, -1, 10]), "v": numbers[:240].reshape(1, 24, 10), "u": numbers[:144].reshape(1, 24, 6),
        "a": np.array([1]),
    }  # fmt: skip
    with pytest.raises(EngineError) as caught:
        OpenVinoSession(parse(RECURRENT, arrays).to_bytes())
    assert caught.value.code == "engine-recurrent"
