"""Troubles of a device that only ``xxdeploy doctor`` can explain: illegal instructions, and a system without /proc."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.optional import OLD_NUMPY

ILLEGAL = "illegal instruction: the processor lacks one that this build of the library uses"
_ILLEGAL_STATUSES = (-4, 132, 0xC000001D, 0xC000001D - (1 << 32))
"""SIGILL, the same through a shell, and STATUS_ILLEGAL_INSTRUCTION of Windows."""


@dataclass(frozen=True, slots=True)
class Warning:
    """A problem and its remedy."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Processor:
    """As much of the processor as decides which wheels run: ``platform.machine()`` and the text of /proc/cpuinfo."""

    machine: str
    cpuinfo: str = ""

    @property
    def is_arm(self) -> bool:
        """Whether it is a 64-bit ARM."""
        return self.machine.lower() in ("aarch64", "arm64")

    def lacks(self, flag: str) -> bool:
        """Whether /proc/cpuinfo lists flags and ``flag`` is not among them."""
        flags = {word for line in self.cpuinfo.splitlines() if line.startswith("flags") for word in line.split()}
        return bool(flags) and flag not in flags


def ending(status: int) -> str:
    """Say how a child process ended that imported a library."""
    return ILLEGAL if status in _ILLEGAL_STATUSES else f"Python died with status {status} while importing it"


def illegal_instruction(name: str, version: str, processor: Processor) -> Warning:
    """Explain an illegal instruction while the library ``name`` of ``version`` ("": unknown) was imported."""
    lack = ", which has no AVX" if processor.lacks("avx") else ""
    message = f"{name} {version}".strip() + f" does not run on this processor ({processor.machine}{lack}): {ILLEGAL}"
    if name == "onnxruntime" and processor.is_arm and version.startswith("1.21."):
        # Wheels of 1.21 use instructions that a Raspberry Pi 4 lacks: microsoft/onnxruntime#23957, #24512.
        return Warning(message, "pip install 'onnxruntime>=1.22', or 'onnxruntime<1.21'")
    if name == "numpy":
        return Warning(message, OLD_NUMPY)
    if name in ("tensorflow", "keras", "tf2onnx"):
        return Warning(message, "export on a machine with AVX; a device that only loads bundles needs no TensorFlow")
    return Warning(
        message, "try an older version of it, or build it here from source: its wheels are for newer processors"
    )


def missing_folders(root: Path = Path("/"), platform: str = sys.platform) -> Iterator[Warning]:
    """Yield a warning for each of /proc and /sys that is not mounted on a Linux; ``root`` is the folder of both."""
    if not platform.startswith("linux"):
        return
    if not (root / "proc/cpuinfo").exists():
        yield Warning(
            "/proc is not mounted: the processor's name and its AVX-VNNI are unknown, and so is a CPU quota",
            "mount -t proc proc /proc; or give load(..., threads=...) and variant= yourself",
        )
    if not (root / "sys/devices/system/cpu").exists():
        yield Warning(
            "/sys is not mounted: a CPU quota is unknown, and onnxruntime may count the processors wrongly",
            "mount -t sysfs sysfs /sys; or give load(..., threads=...) yourself",
        )
