"""Good, damaged and hostile SavedModel folders: none of their operations runs, and reading them takes little memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from saved_models import changed, functions_with, write_function, write_module

from xxdeploy.convert.user_model.quarantine.inspect import ask
from xxdeploy.files import child_python

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_module(tmp_path_factory.mktemp("saved") / "good")


def answer(folder: Path, place: Path, signature: str | None = None) -> dict[str, Any]:
    place.mkdir(exist_ok=True)
    return ask(folder, place, signature=signature)


def problem(folder: Path, place: Path, signature: str | None = None) -> dict[str, str]:
    found: dict[str, str] = answer(folder, place / "out", signature)["error"]
    return found


def test_a_signature_becomes_a_plain_graph(good: Path, tmp_path: Path) -> None:
    found = answer(good, tmp_path)
    operations = [node["operation"] for node in found["nodes"] if node["operation"] != "Const"]
    assert operations == ["RealDiv", "Conv2D", "BiasAdd", "Relu", "Mean", "MatMul", "Softmax"]
    assert [variable["shape"] for variable in found["variables"]] == [[3, 3, 3, 8], [8], [8, 4]]
    assert found["inputs"] == [{"name": "picture", "dtype": 1, "shape": [None, 12, 12, 3]}]
    assert [output["name"] for output in found["outputs"]] == ["classes"]
    facts = found["facts"]
    assert (facts["form"], facts["parameters"]) == ("a SavedModel folder", 216 + 8 + 32)
    assert facts["signatures"] == ["embedding", "serving_default"]


def test_another_signature_by_its_name(good: Path, tmp_path: Path) -> None:
    found = answer(good, tmp_path, "embedding")
    assert [output["name"] for output in found["outputs"]] == ["embedding", "largest"]
    error = problem(good, tmp_path, "absent")
    assert error["code"] == "no-signature"
    assert "embedding or serving_default" in error["hint"]


def test_a_folder_without_signatures(good: Path, tmp_path: Path) -> None:
    error = problem(changed(good, tmp_path / "none", lambda graph: graph.signature_def.clear()), tmp_path)
    assert error["code"] == "no-signature"
    assert "signatures=" in error["hint"]


def test_a_signature_that_takes_text_is_refused_by_the_name_of_its_input(good: Path, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        graph.signature_def["serving_default"].inputs["picture"].dtype = 7

    error = problem(changed(good, tmp_path / "text", change), tmp_path)
    assert error["code"] == "signature-input"
    assert "'picture'" in error["message"]
    assert "string" in error["message"]


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ("ReadFile", "reads or writes files"),
        ("WriteFile", "reads or writes files"),
        ("PyFunc", "runs Python"),
        ("EagerPyFunc", "runs Python"),
        ("While", "loop"),
        ("HashTableV2", "looks values up"),
        ("DecodeJpeg", "decodes pictures"),
        ("RandomUniform", "draws random numbers"),
        ("AssignVariableOp", "changes variables"),
        ("_Send", "opens connections"),
        ("NotAnOperation", "not on xxdeploy's list"),
    ],
)
def test_an_operation_hidden_in_a_function_is_named(good: Path, tmp_path: Path, operation: str, reason: str) -> None:
    def change(graph: Any) -> None:
        (function,) = functions_with(graph, "Conv2D")[:1]
        for function in functions_with(graph, "Conv2D"):
            hidden = function.node_def.add(name="hidden/node", op=operation)
            hidden.input.append(function.signature.input_arg[0].name)

    error = problem(changed(good, tmp_path / "bad", change), tmp_path)
    assert error["code"] == "saved-model-operation"
    assert f"operation {operation} (at " in error["message"]
    assert "hidden/node" in error["message"]
    assert reason in error["message"]


def test_functions_that_the_signature_does_not_call_are_left_alone(good: Path, tmp_path: Path) -> None:
    def change(graph: Any) -> None:
        function = graph.graph_def.library.function.add()
        function.signature.name = "never_called"
        function.node_def.add(name="read", op="ReadFile")
        graph.graph_def.node.add(name="also", op="PyFunc")

    assert "nodes" in answer(changed(good, tmp_path / "more", change), tmp_path / "out")


def test_attributes_that_name_functions_and_functions_named_like_operations(good: Path, tmp_path: Path) -> None:
    def name_function(graph: Any) -> None:
        for function in functions_with(graph, "Relu"):
            relu = next(node for node in function.node_def if node.op == "Relu")
            relu.attr["f"].func.name = graph.graph_def.library.function[0].signature.name

    def shadow(graph: Any) -> None:
        graph.graph_def.library.function.add().signature.name = "Relu"

    for name, change in (("named", name_function), ("shadow", shadow)):
        assert problem(changed(good, tmp_path / name, change), tmp_path)["code"] == "saved-model-operation", name


def test_functions_that_call_themselves_and_nodes_in_a_circle(good: Path, tmp_path: Path) -> None:
    def recursive(graph: Any) -> None:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                    node.attr["f"].func.name = function.signature.name

    def circle(graph: Any) -> None:
        for function in functions_with(graph, "Relu"):
            relu = next(node for node in function.node_def if node.op == "Relu")
            relu.input[0] = f"{relu.name}:activations:0"

    for name, change in (("recursive", recursive), ("circle", circle)):
        assert problem(changed(good, tmp_path / name, change), tmp_path)["code"] == "damaged-model", name


def exponential(graph: Any) -> None:
    """Forty functions, each of which calls the one before twice: 2 to the power of 40 nodes."""
    from tensorflow.core.framework.function_pb2 import FunctionDef

    previous = None
    for depth in range(40):
        function = FunctionDef()
        function.signature.name = f"bomb_{depth}"
        function.signature.input_arg.add(name="x", type=1)
        function.signature.output_arg.add(name="y", type=1)
        source = "x"
        for place in range(2):
            node = function.node_def.add(name=f"n{place}", op="Relu" if previous is None else "PartitionedCall")
            node.input.append(source)
            if previous is not None:
                node.attr["f"].func.name = previous
            source = f"n{place}:output:0"
        function.ret["y"] = source
        previous = function.signature.name
        graph.graph_def.library.function.append(function)
    call = graph.graph_def.node.add(name="bomb", op="PartitionedCall")
    call.input.append(graph.signature_def["serving_default"].inputs["picture"].name.partition(":")[0])
    call.attr["f"].func.name = str(previous)
    graph.signature_def["serving_default"].outputs["classes"].name = "bomb:0"


def million(graph: Any) -> None:
    one = graph.graph_def.__class__()
    one.node.add(name="n", op="Relu")
    graph.graph_def.MergeFromString(one.SerializeToString() * 1_000_000)


def huge_constant(graph: Any) -> None:
    for function in functions_with(graph, "Conv2D"):
        constant = next(node for node in function.node_def if node.op == "Const" and node.attr["dtype"].type == 1)
        for _ in range(3):
            constant.attr["value"].tensor.tensor_shape.dim.add(size=100_000)


def as_child(folder: Path, place: Path) -> tuple[dict[str, Any], int, float]:
    """Return the answer of the quarantine's process, its largest memory in MB, and its seconds."""
    place.mkdir(exist_ok=True)
    request: dict[str, Any] = {
        **{"path": str(folder), "kind": "saved-model", "folder": str(place), "weights": None, "custom": []},
        **{"unsafe_lambda": False, "signature": None},
    }
    command, environment = child_python("-m", "xxdeploy.convert.user_model.quarantine.child", OPENBLAS_NUM_THREADS="1")
    start = time.perf_counter()
    # The peak of a process counts what it was forked from, so a small process stands between this one and the child.
    ended = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], input=json.dumps(request).encode(), env=environment,
        capture_output=True, check=True,
    )  # fmt: skip
    *_, peak = ended.stderr.split()
    return json.loads(ended.stdout), int(peak) // 1024, time.perf_counter() - start


_MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], input=sys.stdin.buffer.read())
print("", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource measures the memory of a child process")
@pytest.mark.parametrize(
    ("change", "code"),
    [(exponential, "damaged-model"), (million, "unsafe-model"), (huge_constant, "damaged-model")],
)
def test_bombs_are_refused_within_a_gigabyte(
    good: Path, tmp_path: Path, change: Callable[[Any], None], code: str
) -> None:
    answered, megabytes, _ = as_child(changed(good, tmp_path / "bomb", change), tmp_path / "out")
    assert answered["error"]["code"] == code
    assert megabytes < 1000


def cut(folder: Path, name: str, size: int) -> None:
    file = folder / "variables" / name
    file.write_bytes(file.read_bytes()[:size])


def test_files_that_are_cut_off(good: Path, tmp_path: Path) -> None:
    for index, name in enumerate(("variables.index", "variables.data-00000-of-00001")):
        for size in (0, 40, 200):
            folder = Path(shutil.copytree(good, tmp_path / f"cut-{index}-{size}"))
            cut(folder, name, size)
            assert problem(folder, tmp_path)["code"] == "damaged-model", (name, size)
    for size in (0, 10, 1000, 5000):
        folder = Path(shutil.copytree(good, tmp_path / f"graph-{size}"))
        (folder / "saved_model.pb").write_bytes((good / "saved_model.pb").read_bytes()[:size])
        assert problem(folder, tmp_path)["code"] in ("damaged-model", "no-signature"), size


def test_files_that_are_missing(good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "missing"))
    shutil.rmtree(folder / "variables")
    assert problem(folder, tmp_path)["code"] == "damaged-model"


def test_links_out_of_the_folder(good: Path, tmp_path: Path) -> None:
    for name in ("saved_model.pb", "variables", "variables/variables.index"):
        folder = Path(shutil.copytree(good, tmp_path / name.replace("/", "-")))
        inside = folder / name
        shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
        inside.symlink_to(good / name)
        error = problem(folder, tmp_path)
        assert error["code"] == "unsafe-model", name
        assert "link" in error["message"]


def test_a_variable_that_gets_another_value_or_none(good: Path, tmp_path: Path) -> None:
    def drop(graph: Any) -> None:
        for function in functions_with(graph, "RestoreV2"):
            for node in list(function.node_def):
                if node.op == "AssignVariableOp":
                    function.node_def.remove(node)

    def lie(graph: Any) -> None:
        for node in graph.graph_def.node:
            if node.op == "VarHandleOp":
                node.attr["shape"].shape.dim[0].size += 1

    for name, change in (("drop", drop), ("lie", lie)):
        assert problem(changed(good, tmp_path / name, change), tmp_path)["code"] == "damaged-model", name


def test_the_statistics_of_a_norm_are_no_output(tmp_path: Path) -> None:
    import tensorflow as tf

    def variance(x: Any) -> Any:
        return tf.compat.v1.nn.fused_batch_norm(x, tf.ones(3), tf.zeros(3), is_training=True)[2] + tf.reduce_mean(x)

    error = problem(write_function(tmp_path / "statistics", variance), tmp_path)
    assert error["code"] == "saved-model-operation"
    assert "statistics" in error["message"]


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = write_function(tmp_path / "complex", lambda x: tf.math.real(tf.cast(x, tf.complex64) * 2j))
    assert problem(folder, tmp_path)["code"] == "saved-model-operation"
