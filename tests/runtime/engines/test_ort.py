"""The ONNX Runtime session: quiet, mapped errors, one input and one output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
import tiny_bundle
from satnets import CASES, Case, brute_conv, conv_arrays, conv_input, conv_model, integers_of

from xxdeploy.errors import EngineError, MissingDependencyError, UsageError
from xxdeploy.runtime.engines.ort import OrtSession

BATCH = np.zeros((2, 8, 8, 3), np.float32)


def test_bytes_and_path_options_and_names(tmp_path: Path) -> None:
    model = tiny_bundle.model_bytes()
    (tmp_path / "m.onnx").write_bytes(model)
    session = OrtSession(model, name="onnx-fp32", threads=1)
    assert (session.name, session.input_name, session.output_name) == ("onnx-fp32", "image", "probabilities")
    expected = session.run(BATCH)
    assert expected.shape == (2, 10)
    assert expected.dtype == np.float32
    for other in (
        OrtSession(tmp_path / "m.onnx"),
        OrtSession(model, threads=2, spinning=False),
        OrtSession(model, optimize=False),
    ):
        assert np.allclose(other.run(BATCH), expected, atol=1e-6)


def test_optimize_false_reaches_onnxruntime() -> None:
    from onnxruntime import GraphOptimizationLevel

    session = OrtSession(tiny_bundle.model_bytes(), optimize=False, spinning=False, threads=3)
    options = session._session.get_session_options()
    assert options.graph_optimization_level == GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_threads_out_of_range(threads: int) -> None:
    with pytest.raises(UsageError) as caught:
        OrtSession(tiny_bundle.model_bytes(), threads=threads)
    assert caught.value.code == "threads-invalid"


@pytest.mark.parametrize("model", [b"not a model", tiny_bundle.model_bytes()[:200], b"\x00"])
def test_damaged_model(model: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError) as caught:
        OrtSession(model, name="mine")
    assert caught.value.code == "engine-load"
    assert "mine" in caught.value.message
    assert capfd.readouterr() == ("", "")  # neither onnxruntime's fallback print nor its log


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        OrtSession(tmp_path / "absent.onnx")
    assert caught.value.code == "engine-load"


@pytest.mark.parametrize(
    "signature",
    [
        "(float[n, 2] a, float[n, m] b) => (float[n, 2] c) { c = Add(a, b) }",  # m is known too late
        "(float[n, 2] a) => (float[n, 2] b, int64[n] c) { b = Relu(a) c = ArgMax<axis=1, keepdims=0>(a) }",
        "(int32[n, 2] a) => (float[n, 2] b) { b = Cast<to=1>(a) }",
        "(float[n, 2] a) => (int64[n] b) { b = ArgMax<axis=1, keepdims=0>(a) }",
    ],
)
def test_other_signatures_are_refused(signature: str) -> None:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {signature}')
    with pytest.raises(EngineError) as caught:
        OrtSession(model.SerializeToString())
    assert caught.value.code == "engine-signature"


def test_several_inputs() -> None:
    text = "(float[n, 2] a, float[n, 2, 2] b) => (float[n, 2, 2] c) { c = Add(a, b) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    session = OrtSession(model.SerializeToString())
    assert (session.input_name, session.input_names) == ("a", ("a", "b"))
    assert session.run(np.arange(6, dtype=np.float32)[None]).tolist() == [[[2, 4], [4, 6]]]
    for batch in (np.zeros((1, 5), np.float32), np.zeros((1, 2), np.float32), np.zeros((1, 6))):
        with pytest.raises(EngineError) as caught:
            session.run(batch)
        assert caught.value.code == "engine-run"


def test_several_outputs() -> None:
    text = "(float[n, 2] a) => (float[n, 2] b, float[n, 2] c) { b = Relu(a) c = Abs(a) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    session = OrtSession(model.SerializeToString())
    batch = np.array([[-1.0, 2.0]], np.float32)
    assert (session.output_name, session.output_names) == ("b", ("b", "c"))
    assert session.run(batch).tolist() == [[0.0, 2.0]]
    assert {name: value.tolist() for name, value in session.run_all(batch).items()} == {"b": [[0, 2]], "c": [[1, 2]]}


@pytest.mark.parametrize("batch", [np.zeros((2, 9, 8, 3), np.float32), BATCH.astype(np.float64), BATCH[0], None])
def test_a_batch_that_does_not_fit(batch: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    session = OrtSession(tiny_bundle.model_bytes(), name="mine")
    with pytest.raises(EngineError) as caught:
        session.run(batch)
    assert caught.value.code == "engine-run"
    assert "mine" in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_without_onnxruntime_the_pip_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError) as caught:
        OrtSession(b"x")
    assert "xxdeploy[edge]" in caught.value.hint
    assert caught.value.code in ("missing-dependency", "broken-dependency")


def test_forbidden_cores_give_no_noise() -> None:
    """A container may use some cores only: onnxruntime's default would pin to all and complain."""
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "sys.path.insert(0, sys.argv[1]); import tiny_bundle; "
        "from xxdeploy.cores import default_threads; "
        "from xxdeploy.runtime.engines.ort import OrtSession; "
        "OrtSession(tiny_bundle.model_bytes()); print(default_threads(), os.cpu_count())"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    tests = str(Path(tiny_bundle.__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, tests], capture_output=True, text=True, check=True)
    threads, cores = done.stdout.split()
    assert threads == ("1" if int(cores) > 1 else "None")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"ir_version": 99}, "IR version 99"),
        ({"opset": 99}, "opset 99"),
        ({"operator": "NoSuchOperator"}, "an operator of the model"),
    ],
    ids=str,
)
def test_a_model_for_a_newer_onnxruntime(change: dict[str, Any], hint: str) -> None:
    model = onnx.load_from_string(tiny_bundle.model_bytes())
    model.ir_version = change.get("ir_version", model.ir_version)
    model.opset_import[0].version = change.get("opset", model.opset_import[0].version)
    model.graph.node[0].op_type = change.get("operator", model.graph.node[0].op_type)
    with pytest.raises(EngineError) as caught:
        OrtSession(model.SerializeToString())
    assert caught.value.code == "engine-load"
    assert caught.value.hint.startswith("pip install -U onnxruntime: ")
    assert hint in caught.value.hint


@pytest.mark.parametrize("case", [case for case in CASES if not case.depthwise and not case.signed], ids=str)
def test_exact_sums_do_not_saturate_on_any_processor(case: Case) -> None:
    session = OrtSession(conv_model(case).to_bytes(), exact=True)
    np.testing.assert_array_equal(
        integers_of(session.run(conv_input(case)), conv_arrays(case)), brute_conv(case, saturate=False)
    )
