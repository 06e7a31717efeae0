"""Optional libraries: absent, broken, and what the error says to do."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from xxdeploy.errors import MissingDependencyError
from xxdeploy.optional import extra, import_library, remedy_for


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


MESSAGES = {
    "DLL load failed while importing onnxruntime_pybind11_state: A dynamic link library (DLL) initialization routine "
    "failed.": "Visual C++ runtime",
    "DLL load failed while importing onnxruntime_pybind11_state: \u52a8\u6001\u94fe\u63a5\u5e93": "vc_redist.x64.exe",
    "/lib/x86_64-linux-gnu/libm.so.6: version `GLIBC_2.29' not found (required by a.so)": "older than GLIBC_2.29",
    "/lib/aarch64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by a.so)": "GLIBCXX_3.4.29",
    "NumPy was built with baseline optimizations: (X86_V2) but your machine doesn't support: (X86_V2).": "numpy<2.4",
    "libgomp.so.1: cannot open shared object file: No such file or directory": "`apt-file search libgomp.so.1`",
    "Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by a.so)": "musl (Alpine)",
    "a.so: wrong ELF class: ELFCLASS32": "another processor",
    "/x/libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block": "LD_PRELOAD",
}
"""What systems say, as found in the issues of onnxruntime, numpy and others, and a part of the remedy."""


@pytest.mark.parametrize("message", MESSAGES)
def test_a_known_trouble_has_its_remedy(message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text(f"raise ImportError({message!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError) as caught:
        import_library("broken_library", "edge")
    assert MESSAGES[message] in caught.value.hint
    assert message in caught.value.message


def test_numpy_on_an_old_processor_raises_another_error() -> None:
    said = "NumPy was built with baseline optimizations: \n(X86_V2) but your machine doesn't support:\n(X86_V2)."
    with pytest.raises(MissingDependencyError, match=r"optimizations: \(X86_V2\)") as caught, extra("edge"):
        raise RuntimeError(said)
    assert "numpy<2.4" in caught.value.hint
    with pytest.raises(RuntimeError, match="other"), extra("edge"):
        raise RuntimeError("other")
    assert remedy_for("other") is None
