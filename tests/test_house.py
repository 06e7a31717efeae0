"""The rules of ``docs/contributing/style.md`` that a machine can check: sizes, and a test for each module."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ROOT / "xxdeploy"
MOST_LINES, SMALL_LINES, SMALL_SHARE, MOST_MODULES, MOST_CODE, MOST_PARAMETERS = 400, 60, 0.2, 20, 60, 8
TESTED_ELSEWHERE: dict[str, str] = {
    # root
    # starts the command line, in a process of its own
    "__main__.py": "cli/test_main.py",
    # batch
    #
    #
    # bundle
    #
    #
    # cli
    #
    #
    # convert
    # the child's answers are those of the inspection
    "convert/user_model/quarantine/child.py": "convert/user_model/quarantine/test_inspect.py",
    # the parts of the reader of a SavedModel are tested by the folders that it takes and refuses
    **{
        f"convert/user_model/quarantine/saved_model/{part}.py": (
            "convert/user_model/quarantine/saved_model/test_reader.py"
        )
        for part in ("constants", "inline", "nodes", "restore", "scope", "signature")
    },
    # each form and each layer of a SavedModel gives the answers of TensorFlow
    **{
        f"convert/user_model/saved_model/{part}.py": "convert/user_model/saved_model/test_load.py"
        for part in ("forms", "layer", "program", "shapes", "signature")
    },
    # datasets
    #
    #
    # diagnose
    # each step of a diagnosis is tested on a bundle with one fault, which it must name (tests/support/mutations.py)
    **{f"diagnose/{step}.py": "pytest_plugin/test_mutations.py" for step in ("bisect", "explain", "layer_values")},
    **{f"diagnose/{step}.py": "pytest_plugin/test_mutations.py" for step in ("measures", "structure")},
    # doctor
    # runs as a script in the child process of the checkup
    "doctor/probe.py": "doctor/test_checkup.py",
    # engine
    #
    #
    # exporter
    # the groups are tested as parts of the options that they make up
    "exporter/option_groups.py": "exporter/test_options.py",
    #
    # lowering
    # what every operator is written with
    "lowering/litert/flat.py": "lowering/litert/test_write.py",
    "lowering/litert/values.py": "lowering/litert/test_layers.py",
    #
    #
    # models
    # each network of the catalog is built and compared with its row, its paper and other implementations
    **{f"models/{family}.py": "models/test_networks.py" for family in ("alexnet", "densenet", "frame", "googlenet")},
    **{f"models/{family}.py": "models/test_networks.py" for family in ("inception", "lenet", "resnet", "vgg")},
    # onnxmodel
    #
    #
    # passes
    #
    #
    # pytest_plugin
    # the checks of a bundle pass on a good bundle and fail on each faulty one
    "pytest_plugin/records.py": "pytest_plugin/test_mutations.py",
    "pytest_plugin/subject.py": "pytest_plugin/test_mutations.py",
    # quantize
    "quantize/policy.py": "quantize/test_placement.py",
    #
    #
    # report
    #
    #
    # runtime
    # each of these meets hostile or spoiled files in a test of its own kind
    "runtime/bundle/signature.py": "bundle/test_sign.py",
    "runtime/image/picture.py": "hostile/test_hostile_pictures.py",
    # a pass has a file each; what they read of a graph shows in all
    "runtime/engines/openvino/graph.py": "runtime/engines/openvino/passes",
    "runtime/engines/openvino/passes.py": "runtime/engines/openvino/passes",
    # grids are written by the lowering, golden pairs are run by load
    "runtime/image/grid.py": "lowering/test_uint8_channels.py",
    "runtime/selftest.py": "runtime/test_predictor.py",
    # verify
    #
    #
}
"""Modules without a test file of the same name, and where they are tested instead."""


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(path for path in PRODUCT.rglob("*.py") if path != PRODUCT / "_version.py"))  # a build writes it


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return total - ((first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_no_file_is_too_long() -> None:
    assert [path for path in modules() if lines(path) > MOST_LINES] == []


def test_few_files_are_small() -> None:
    small = [path for path in modules() if lines(path) < SMALL_LINES]
    assert len(small) <= SMALL_SHARE * len(modules()), [str(path.relative_to(ROOT)) for path in small]


def test_no_folder_holds_too_many_modules() -> None:
    assert {
        str(folder): count for folder, count in Counter(p.parent for p in modules()).items() if count > MOST_MODULES
    } == {}


def test_functions_are_short() -> None:
    assert {name: code_lines(node) for name, node in functions() if code_lines(node) > MOST_CODE} == {}


def test_parameter_lists_are_short() -> None:
    assert {name: parameters(node) for name, node in functions() if parameters(node) > MOST_PARAMETERS} == {}


@pytest.mark.parametrize("module", [p.relative_to(PRODUCT).as_posix() for p in modules() if p.stem != "__init__"])
def test_each_module_has_a_test_of_its_name(module: str) -> None:
    path = Path(module)
    test = ROOT / "tests" / path.parent / f"test_{path.stem}.py"
    if module in TESTED_ELSEWHERE:
        assert not test.is_file(), f"{module} has a test: take it out of TESTED_ELSEWHERE"
        assert (ROOT / "tests" / TESTED_ELSEWHERE[module]).exists(), TESTED_ELSEWHERE[module]
    else:
        assert test.is_file(), f"write {test.relative_to(ROOT)}, or say in TESTED_ELSEWHERE where {module} is tested"
