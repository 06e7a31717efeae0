"""Optional libraries: absent, broken, and what the error says to do."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from xxdeploy.errors import MissingDependencyError
from xxdeploy.optional import extra, import_library


def test_an_absent_library_names_the_pip_line() -> None:
    with pytest.raises(MissingDependencyError) as caught, extra("export"):
        importlib.import_module("a_library_that_nobody_has")
    assert caught.value.code == "missing-dependency"
    assert caught.value.message == "this step needs a_library_that_nobody_has, which is not installed"
    assert caught.value.hint == "pip install 'xxdeploy[export]'"


@pytest.mark.parametrize(
    "code",
    [
        "raise ImportError('libcuda.so.1: cannot open', name='broken_library')",
        "raise OSError('libcuda.so.1: cannot open')",
        "raise RuntimeError('libcuda.so.1: cannot open')",
        "raise AttributeError('libcuda.so.1: cannot open')",
    ],
)
def test_a_broken_library_is_told_apart(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError) as caught:
        import_library("broken_library", "edge")
    assert caught.value.code == "broken-dependency"
    assert "broken_library is installed" in caught.value.message
    assert "libcuda.so.1: cannot open" in caught.value.message
    assert "xxdeploy doctor" in caught.value.hint


def test_a_library_that_is_there() -> None:
    assert import_library("json", "edge").loads("1") == 1
