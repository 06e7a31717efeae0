"""Freed memory goes back to the system, and the peak of an export is a few times its weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from xxdeploy.memory import release_memory

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads the memory of a process as Linux tells it"
)
CHILD = Path(__file__).resolve().parent / "support" / "export_child.py"


def resident() -> int:
    """The resident bytes of this process."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


@linux
def test_memory_below_a_block_in_use_is_given_back() -> None:
    blocks = [bytearray(b"x" * 1000) for _ in range(60_000)]
    last = blocks[-1]
    del blocks
    before = resident()
    release_memory()
    assert resident() < before - 40e6
    assert len(last) == 1000


@linux
def test_an_export_takes_a_few_times_the_weights(tmp_path: Path) -> None:
    """``benchmarks/export_memory.py`` measures whole exports of large files of each kind against their bound."""
    done = subprocess.run(
        [sys.executable, str(CHILD), str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grown, weights = json.loads(done.stdout.splitlines()[-1])
    assert weights > 60e6
    assert grown < 3.8 * weights  # 3.2 times; 4.4 before freed memory went back and graphs were made without a copy
