"""The processor's instructions that decide which model file is right for it."""

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
"""Features of every processor with AVX-VNNI. Where numpy does not report them (numpy before 2.4 never does), the text
may be about another processor."""


def cpuinfo() -> str:
    """Return the text of ``/proc/cpuinfo``; empty where there is none."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_features() -> frozenset[str]:
    """Return the features that this processor is known to have: ``avx2``, ``vnni`` (x86), ``arm``, ``dotprod``.

    Without VNNI, 8-bit products are summed in 16 bits on x86 and saturate: an INT8 model made for VNNI is wrong there.
    So only certain features are returned; the portable variant is right everywhere.

    numpy asks the processor itself when it is imported; ``/proc/cpuinfo`` describes the host under qemu-user.
    ``NPY_DISABLE_CPU_FEATURES`` hides features: then a slower variant may be picked, never a wrong one.
    """
    return join_features(_numpy_features(), cpuinfo(), platform.machine())


def join_features(asked: Mapping[str, bool] | None, text: str, machine: str) -> frozenset[str]:
    """Read numpy's table of features; without one, and for AVX-VNNI, the ``text`` of ``/proc/cpuinfo``.

    AVX-VNNI counts only if the table has the features that come with it.
    """
    if asked is None:
        return features_from(text, machine)
    features = frozenset(name for key, name in _FROM_NUMPY.items() if asked.get(key))
    if machine.lower().startswith(("arm", "aarch64")):
        return features | {"arm"}
    if all(asked.get(key) for key in _WITH_AVX_VNNI) and _AVX_VNNI in _common_flags(text):
        features |= {"vnni"}
    return features


def features_from(text: str, machine: str) -> frozenset[str]:
    """Read the text of ``/proc/cpuinfo``; a feature counts only if every core has it."""
    common = frozenset(_FROM_FLAG[flag] for flag in _common_flags(text) if flag in _FROM_FLAG)
    return common | {"arm"} if machine.lower().startswith(("arm", "aarch64")) else common


def _common_flags(text: str) -> frozenset[str]:
    """Return the flags of all cores (x86: ``flags``, ARM: ``Features``; one line a core)."""
    lines = (line.partition(":") for line in text.splitlines())
    cores = [frozenset(words.split()) for key, _, words in lines if key.strip() in ("flags", "Features")]
    return frozenset.intersection(*cores) if cores else frozenset()


def _numpy_features() -> Mapping[str, bool] | None:
    """Return numpy's table of processor features, which is private to numpy; None if it cannot be had."""
    for module in ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath"):  # numpy 2, numpy 1
        try:
            table = getattr(importlib.import_module(module), "__cpu_features__", None)
        except ImportError:
            continue
        if isinstance(table, dict) and table:
            return table
    return None
