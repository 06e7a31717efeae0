"""Which instructions this processor has, as far as they decide which model file is right for it."""

from __future__ import annotations

import platform
from pathlib import Path

_FROM_FLAG = {"avx2": "avx2", "avx512_vnni": "vnni", "avx_vnni": "vnni", "asimddp": "dotprod"}


def cpu_features() -> frozenset[str]:
    """Return what this processor is known to have: ``avx2``, ``vnni`` (x86), ``arm``, ``dotprod``.

    Without VNNI, 8-bit products are summed in 16 bits on x86 and saturate: an INT8 model made for VNNI
    runs there and is wrong. So a feature counts only if every core has it, and where nothing can be read
    (not Linux) none does: the portable variant is right everywhere.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return features_from(text, platform.machine())


def features_from(cpuinfo: str, machine: str) -> frozenset[str]:
    """Read the text of ``/proc/cpuinfo`` (x86: ``flags``, ARM: ``Features``; one line a core)."""
    cores = [
        {_FROM_FLAG[flag] for flag in words.split() if flag in _FROM_FLAG}
        for key, _, words in (line.partition(":") for line in cpuinfo.splitlines())
        if key.strip() in ("flags", "Features")
    ]
    common = frozenset(set.intersection(*cores)) if cores else frozenset()
    return common | {"arm"} if machine.lower().startswith(("arm", "aarch64")) else common
