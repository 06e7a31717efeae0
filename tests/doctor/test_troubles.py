"""Illegal instructions, and systems without /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.doctor.troubles import ILLEGAL, Processor, ending, illegal_instruction, missing_folders

OLD, NEW = Processor("x86_64", "flags : sse2 sse4_2\n"), Processor("x86_64", "flags : sse2 avx\n")
PI = Processor("aarch64", "Features : fp asimd\n")


@pytest.mark.parametrize("status", [-4, 132, 3221225501, -1073741795])
def test_how_an_illegal_instruction_ends(status: int) -> None:
    assert ending(status) == ILLEGAL
    assert ending(-6) == "Python died with status -6 while importing it"


@pytest.mark.parametrize(
    ("name", "version", "processor", "said", "hint"),
    [
        ("onnxruntime", "1.21.0", PI, "onnxruntime 1.21.0 does not run on this processor (aarch64)", ">=1.22"),
        ("onnxruntime", "1.24.0", PI, "(aarch64)", "older version"),
        ("numpy", "2.4.6", OLD, "(x86_64, which has no AVX)", "numpy<2.4"),
        ("tensorflow", "2.21", OLD, "which has no AVX", "machine with AVX"),
        ("onnx", "", NEW, "onnx does not run on this processor (x86_64)", "older version"),
        ("onnx", "1.2", Processor("AMD64"), "(AMD64)", "older version"),
    ],
)
def test_the_version_that_works(name: str, version: str, processor: Processor, said: str, hint: str) -> None:
    warning = illegal_instruction(name, version, processor)
    assert said in warning.message
    assert hint in warning.hint


def test_folders_that_are_not_mounted(tmp_path: Path) -> None:
    proc, sys = missing_folders(tmp_path, "linux")
    assert "/proc is not mounted" in proc.message
    assert "mount -t sysfs" in sys.hint
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").touch()
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    assert list(missing_folders(tmp_path, "linux")) == []
    assert list(missing_folders(tmp_path / "none", "darwin")) == []
