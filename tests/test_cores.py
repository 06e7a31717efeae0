"""Processors and quotas, on made-up trees of ``/proc`` and ``/sys``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xxdeploy.cores import Cores, cores, count_cores, cpu_quota, default_threads

DOCKER = "/docker/0f1e2d"


def tree(root: Path, cgroup: str, **files: str) -> str:
    """Write ``/proc/self/cgroup`` and files below ``/sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),  # version 2, in a namespace
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        (f"0::{DOCKER}\n", {"cpu.max": "150000 100000\n"}, 1.5),  # the host's path, which is not mounted
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),  # a limit of a parent
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "25000 50000"}, 0.5),
        ("0::/\n", {}, None),
        (f"4:cpu,cpuacct:{DOCKER}\n0::/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        (
            f"4:cpuacct,cpu:{DOCKER}\n",
            {
                f"cpu,cpuacct{DOCKER}/cpu.cfs_quota_us": "-1\n",
                f"cpu,cpuacct{DOCKER}/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            4.0,
        ),
        ("5:cpuset:/x\n2:cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "50000"}, None),  # without a period
        ("1:cpu:/\n0::/\n", {"unified/cpu.max": "100000 100000"}, 1.0),  # both versions
        ("0::/../../x\n", {"cpu.max": "50000 100000"}, 0.5),
        ("nonsense\n::\n0::/\n", {"cpu.max": "many 0\n"}, None),
        ("0::/\n", {"cpu.max": "50000 0"}, None),
    ],
)
def test_quotas(cgroup: str, files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    assert cpu_quota(tree(tmp_path, cgroup, **files)) == quota


def test_without_proc_and_sys(tmp_path: Path) -> None:
    found = count_cores(str(tmp_path), {})
    assert (found.quota, found.omp, found.machine) == (None, None, os.cpu_count())
    assert found.usable == found.allowed


@pytest.mark.parametrize(
    ("found", "usable", "threads", "is_limited"),
    [
        (Cores(8, 8), 8, 8, False),
        (Cores(8, 2), 2, 2, True),
        (Cores(8, 8, 0.5), 1, 1, True),
        (Cores(8, 8, 1.5), 1, 1, True),
        (Cores(8, 2, 4.0), 2, 2, True),
        (Cores(8, 8, 16.0), 8, 8, False),
        (Cores(8, 8, None, 3), 8, 3, True),
        (Cores(2, 2, None, 16), 2, 2, False),
    ],
)
def test_the_smallest_limit_counts(found: Cores, usable: int, threads: int, is_limited: bool) -> None:
    assert (found.usable, found.threads, found.is_limited) == (usable, threads, is_limited)


def test_what_it_says() -> None:
    assert str(Cores(8, 8)) == "8 of 8 processors"
    said = str(Cores(8, 4, 0.5, 2))
    assert said == "1 of 8 processors (affinity allows 4, the control group's quota is 0.5, OMP_NUM_THREADS is 2)"


@pytest.mark.parametrize(
    ("value", "omp"), [("3", 3), (" 4,2 ", 4), ("0", None), ("-1", None), ("two", None), ("", None), ("9" * 9, None)]
)
def test_the_variable_of_openmp(value: str, omp: int | None, tmp_path: Path) -> None:
    assert count_cores(str(tmp_path), {"OMP_NUM_THREADS": value}).omp == omp


def test_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert default_threads() == (1 if (os.cpu_count() or 1) > 1 else None)
