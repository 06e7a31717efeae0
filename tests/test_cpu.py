"""Processor features: numpy's word against the text of /proc/cpuinfo."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from xxdeploy import cpu
from xxdeploy.cpu import cpu_features, features_from, join_features

HASWELL = {"AVX2": True, "GFNI": False, "VAES": False, "AVX512VNNI": False}
CASCADE_LAKE = HASWELL | {"AVX512VNNI": True}
ALDER_LAKE = HASWELL | {"GFNI": True, "VAES": True}
NUMPY_1 = {"AVX2": True, "AVX512VNNI": False}
SERVER, DESKTOP = "flags : sse2 avx2 avx512f avx512_vnni\n", "flags : sse2 avx2 gfni vaes avx_vnni\n"


@pytest.mark.parametrize(
    ("asked", "cpuinfo", "machine", "features"),
    [
        (CASCADE_LAKE, SERVER, "x86_64", {"avx2", "vnni"}),
        (CASCADE_LAKE, "", "AMD64", {"avx2", "vnni"}),  # Windows
        (HASWELL, SERVER, "x86_64", {"avx2"}),  # qemu-user: the text is the host's
        (HASWELL, DESKTOP, "x86_64", {"avx2"}),
        (ALDER_LAKE, DESKTOP, "x86_64", {"avx2", "vnni"}),
        (ALDER_LAKE, "flags : avx2 gfni vaes\n", "x86_64", {"avx2"}),  # Ice Lake's successors without the flag
        (NUMPY_1, DESKTOP, "x86_64", {"avx2"}),
        ({"AVX2": False, "GFNI": True, "VAES": True}, DESKTOP, "x86_64", set()),
        ({"ASIMDDP": True}, SERVER, "aarch64", {"arm", "dotprod"}),
        ({"ASIMDDP": False}, "Features : asimd asimddp\n", "aarch64", {"arm"}),
        ({"ASIMDDP": True}, "", "arm64", {"arm", "dotprod"}),  # macOS
        (None, SERVER, "x86_64", {"avx2", "vnni"}),
        (None, "", "x86_64", set()),
        (None, "", "arm64", {"arm"}),
    ],
)
def test_numpy_and_cpuinfo(asked: Mapping[str, bool] | None, cpuinfo: str, machine: str, features: set[str]) -> None:
    assert join_features(asked, cpuinfo, machine) == features


def test_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cpu._numpy_features()
    assert asked is not None
    assert {"AVX2", "AVX512VNNI", "ASIMDDP"} <= asked.keys()
    assert cpu_features() <= {"avx2", "vnni", "arm", "dotprod"}


def test_a_numpy_without_the_table_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert cpu._numpy_features() is None
    monkeypatch.setattr(importlib, "import_module", type)  # a module without the table
    assert cpu._numpy_features() is None
    assert cpu_features() <= {"avx2", "vnni", "arm", "dotprod"}


def test_an_emulated_haswell_has_no_vnni() -> None:
    qemu = shutil.which("qemu-x86_64")
    if qemu is None or platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("qemu-x86_64 is absent (Debian: apt-get install qemu-user), or this is no x86-64 Python")
    code = "from xxdeploy.cpu import cpu_features; print(*sorted(cpu_features()))"
    command = [qemu, "-cpu", "Haswell,-hle,-rtm,-invpcid", sys.executable, "-c", code]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["avx2"]


X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 {}\n\nprocessor\t: 1\nflags\t\t: fpu sse2 avx2 {}\n"


@pytest.mark.parametrize(
    ("text", "machine", "features"),
    [
        (X86.format("avx512_vnni", "avx512_vnni"), "x86_64", {"avx2", "vnni"}),
        (X86.format("avx_vnni", "avx_vnni"), "AMD64", {"avx2", "vnni"}),
        (X86.format("avx512f", "avx512f"), "x86_64", {"avx2"}),
        (X86.format("avx512_vnni", ""), "x86_64", {"avx2"}),
        ("Features\t: fp asimd asimddp\n", "aarch64", {"arm", "dotprod"}),
        ("Features\t: fp asimd\n", "aarch64", {"arm"}),
        ("Features\t: half thumb neon\n", "armv7l", {"arm"}),
        ("", "arm64", {"arm"}),
        ("", "x86_64", set()),
        ("model name : avx512_vnni\n", "x86_64", set()),
    ],
)
def test_features_that_every_core_has(text: str, machine: str, features: set[str]) -> None:
    assert features_from(text, machine) == features


def test_features_of_this_machine_are_known_words() -> None:
    assert cpu_features() <= {"avx2", "vnni", "arm", "dotprod"}
