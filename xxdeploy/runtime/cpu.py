"""Which instructions this processor has, as far as they decide which model file is right for it."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from pathlib import Path

_FROM_FLAG = {"avx2": "avx2", "avx512_vnni": "vnni", "avx_vnni": "vnni", "asimddp": "dotprod"}
_FROM_NUMPY = {"AVX2": "avx2", "AVX512VNNI": "vnni", "ASIMDDP": "dotprod"}

_AVX_VNNI = "avx_vnni"
"""The flag of VNNI on 256-bit registers (Alder Lake and later), for which numpy has no key."""

_WITH_AVX_VNNI = ("AVX2", "GFNI", "VAES")
"""What every processor with AVX-VNNI has as well. Where numpy does not find these (numpy before 2.4 does not look), the
text is about another processor, or may be."""


def cpu_features() -> frozenset[str]:
    """Return what this processor is known to have: ``avx2``, ``vnni`` (x86), ``arm``, ``dotprod``.

    Without VNNI, 8-bit products are summed in 16 bits on x86 and saturate: an INT8 model made for VNNI
    runs there and is wrong. So a feature counts only if it is sure, and where nothing can be read none does:
    the portable variant is right everywhere.

    The processor itself is asked, through numpy, which does so when it is imported. ``/proc/cpuinfo`` does not exist
    outside Linux, and under qemu-user it tells of the host. ``NPY_DISABLE_CPU_FEATURES`` hides features from numpy,
    and so from here: a slower variant may be picked then, never a wrong one.
    """
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    return join_features(_numpy_features(), cpuinfo, platform.machine())


def join_features(asked: Mapping[str, bool] | None, cpuinfo: str, machine: str) -> frozenset[str]:
    """Put together what numpy found (None: it does not tell) and the text of ``/proc/cpuinfo`` ("": none).

    numpy's word counts. The text is trusted where numpy is silent, and for AVX-VNNI where numpy finds what comes with
    it.
    """
    written = features_from(cpuinfo, machine)
    if asked is None:
        return written
    found = frozenset(name for key, name in _FROM_NUMPY.items() if asked.get(key))
    if machine.lower().startswith(("arm", "aarch64")):
        return found | {"arm"}
    if all(asked.get(key) for key in _WITH_AVX_VNNI) and _AVX_VNNI in _common_flags(cpuinfo):
        found |= {"vnni"}
    return found


def features_from(cpuinfo: str, machine: str) -> frozenset[str]:
    """Read the text of ``/proc/cpuinfo``; a feature counts only if every core has it."""
    common = frozenset(_FROM_FLAG[flag] for flag in _common_flags(cpuinfo) if flag in _FROM_FLAG)
    return common | {"arm"} if machine.lower().startswith(("arm", "aarch64")) else common


def _common_flags(cpuinfo: str) -> frozenset[str]:
    """Return the flags of all cores (x86: ``flags``, ARM: ``Features``; one line a core)."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    cores = [frozenset(words.split()) for key, _, words in lines if key.strip() in ("flags", "Features")]
    return frozenset.intersection(*cores) if cores else frozenset()


def _numpy_features() -> Mapping[str, bool] | None:
    """Return numpy's table of processor features, which is private to numpy; None if it cannot be had."""
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):  # numpy 2, numpy 1
        try:
            found = getattr(importlib.import_module(module), "__cpu_features__", None)
        except ImportError:
            continue
        if isinstance(found, dict) and found:
            return found
    return None
