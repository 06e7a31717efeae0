"""How many processors this process may use: of the machine, by its affinity, and by the quota of its container."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

OMP = "OMP_NUM_THREADS"
_V1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
"""Folders of the controller below ``/sys/fs/cgroup``."""


class Cores(NamedTuple):  # a dataclass takes 1 ms more of every start
    """What limits the threads of this process.

    ``machine`` is the number of processors, ``allowed`` those of its affinity (``taskset``, cpusets). ``quota`` is the
    processor time per time that its control groups grant (0.5: half a processor), None without a limit. ``omp`` is the
    number in ``OMP_NUM_THREADS``, None where there is none.
    """

    machine: int
    allowed: int
    quota: float | None = None
    omp: int | None = None

    @property
    def usable(self) -> int:
        """Processors that can be kept busy, 1 or more.

        A quota counts in whole processors: a thread more would use it up before the end of each period, and then all of
        them wait.
        """
        return self.allowed if self.quota is None else max(1, min(self.allowed, int(self.quota)))

    @property
    def threads(self) -> int:
        """Threads for one inference: the usable processors, or fewer if ``OMP_NUM_THREADS`` says so."""
        return self.usable if self.omp is None else min(self.usable, self.omp)

    @property
    def is_limited(self) -> bool:
        """Whether fewer threads than the machine has processors are right."""
        return self.threads < self.machine

    def __str__(self) -> str:
        limits = []
        if self.allowed < self.machine:
            limits.append(f"affinity allows {self.allowed}")
        if self.quota is not None:
            limits.append(f"the control group's quota is {self.quota:g}")
        if self.omp is not None:
            limits.append(f"{OMP} is {self.omp}")
        told = f" ({', '.join(limits)})" if limits else ""
        return f"{self.threads} of {self.machine} processors{told}"


def count_cores(root: str = "", environment: Mapping[str, str] = os.environ) -> Cores:
    """Ask the system. ``root`` is a folder with ``proc`` and ``sys``, for tests. Missing files limit nothing."""
    machine = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    first = environment.get(OMP, "").partition(",")[0].strip()  # it may be a list: a number for each nested level
    omp = int(first) if first.isascii() and first.isdecimal() and len(first) < 6 else 0
    return Cores(machine, allowed, cpu_quota(root), omp or None)


def cores() -> int:
    """Return how many processors this process can keep busy, see :attr:`Cores.usable`."""
    return count_cores().usable


def default_threads() -> int | None:
    """Return the threads of one inference where fewer than the machine's processors are right, else None."""
    limits = count_cores()
    return limits.threads if limits.is_limited else None


def cpu_quota(root: str = "") -> float | None:
    """Return the smallest CPU quota of this process's control groups (versions 1 and 2), in processors; None: none.

    The groups' paths are those of ``/proc/self/cgroup``; in a container they may be paths of the host, which are not
    mounted, so each parent up to the mounted root is read as well.
    """
    quotas = list(_quotas(root))
    return min(quotas) if quotas else None


def _quotas(root: str) -> Iterator[float]:
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2, alone or next to version 1
            for group in _groups(path):
                for mount in ("", "/unified"):
                    limit = _read(f"{root}/sys/fs/cgroup{mount}{group}/cpu.max").split()
                    yield from _quota(limit)
        elif "cpu" in controllers.split(","):
            for group in _groups(path):
                for name in _V1:
                    folder = f"{root}/sys/fs/cgroup/{name}{group}"
                    if quota := _read(f"{folder}/cpu.cfs_quota_us").split():
                        yield from _quota([*quota, *_read(f"{folder}/cpu.cfs_period_us").split()])
                        break


def _groups(path: str) -> Iterator[str]:
    """Yield a group's path and those of its parents: ``/a/b``, ``/a`` and the empty one of the root."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield "".join(f"/{part}" for part in parts[:count])


def _quota(limit: list[str]) -> Iterator[float]:
    """Read ``["50000", "100000"]``: microseconds of each period; ``max`` and -1 are no limit."""
    if len(limit) == 2 and all(number.isascii() and number.isdecimal() for number in limit):
        time, period = map(int, limit)
        if time > 0 and period > 0:
            yield time / period


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a Path takes longer to make
            return file.read(4096)
    except (OSError, ValueError):
        return ""
