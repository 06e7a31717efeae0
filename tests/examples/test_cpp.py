"""The C++ header passes the conformance suite, and its program gives the answers of Python."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from check_cpp import CPP, ENGINES, MissingPartError, build, compiler, headers

from xxdeploy.runtime import load


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, str]]:
    """Run ``predict`` or ``conformance`` of an engine; both are one executable, which is compiled once."""
    folder = tmp_path_factory.mktemp("cpp")
    names = ("predict", "conformance")
    parts = [f'#define main {name}_main\n#include "{name}.cc"\n#undef main\n' for name in names]
    choice = "int main(int c, char** v) { return (v[1][0] == 'p' ? predict_main : conformance_main)(c - 1, v + 1); }\n"
    (folder / "both.cc").write_text("".join(parts) + choice)
    programs: dict[str, Path] = {}

    def run(name: str, *words: object, engine: str = "onnxruntime") -> tuple[int, str]:
        try:
            if engine not in programs:
                programs[engine] = build(folder / "both.cc", engine, folder, "-O0")
        except MissingPartError as error:
            pytest.skip(str(error))
        command = [str(programs[engine]), name, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("engine", ENGINES)
def test_the_header_passes_the_conformance_suite(
    engine: str, conformance: Path, program: Callable[..., tuple[int, str]]
) -> None:
    status, told = program("conformance", conformance, engine=engine)
    lines = told.splitlines()
    assert [line for line in lines if line.startswith("not ok")] == []
    assert status == 0, told[-2000:]
    skipped = {line.split("# SKIP ")[1] for line in lines if "# SKIP" in line}
    other = "litert" if engine == "onnxruntime" else "onnx"
    assert skipped <= {other, "png", "signature"}
    assert sum(line.startswith("ok") for line in lines) > 600


def test_the_program_names_the_classes_that_python_names(
    conformance: Path, program: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    bundle, picture = conformance / "bundles" / "classes", conformance / "pictures" / "tall.npy"
    status, told = program("predict", bundle, picture)
    best = load(bundle).predict(np.load(picture))
    assert (status, told.splitlines()) == (0, [f"{one.probability:.6f} {one.label}" for one in best])
    assert program("predict", bundle)[0] == 0
    status, told = program("predict", bundle, picture, "litert")
    assert (status, told.splitlines()[0].split(":")[0]) == (1, "error litert-file")
    status, told = program("predict", bundle, picture, "absent")
    assert (status, told.splitlines()[0].split(":")[0]) == (1, "error unknown-variant")
    status, told = program("predict", conformance / "bundles" / "tf-rgb", picture)
    assert (status, told.splitlines()[0].split(":")[0]) == (1, "error wrong-task")
    status, told = program("predict", bundle, bundle / "labels.txt")
    assert (status, told.splitlines()[0].split(":")[0]) == (1, "error array-invalid")
    np.save(tmp_path / "four.npy", np.zeros((3, 4, 4), np.uint8))
    status, told = program("predict", bundle, tmp_path / "four.npy")
    assert (status, told.splitlines()[0].split(":")[0]) == (1, "error image-array")


def test_the_table_of_onnx_runtime_has_the_order_of_its_header() -> None:
    try:
        words = [compiler(), "-std=c++17", "-fsyntax-only", f"-I{headers()}", "-include", "onnxruntime_c_api.h"]
    except MissingPartError as error:
        pytest.skip(str(error))
    subprocess.run([*words, "-DXXDEPLOY_ONNXRUNTIME", str(CPP / "predict.cc")], check=True)
