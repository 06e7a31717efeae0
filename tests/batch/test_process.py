"""A job's process and its resources, with a stand-in for the export."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job_parts import FakeExports, job

from xxdeploy.batch.process import COMMAND, Ended, Running, resident

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the processes are looked up in /proc")


@pytest.fixture
def fake(tmp_path: Path) -> FakeExports:
    return FakeExports(tmp_path)


def ended(fake: FakeExports, way: str, *, memory: int = 10**9, timeout: float = 30, grace: float = 10) -> Ended:
    out, logs = fake.root / "out" / "a", fake.root / "logs"
    job_a = job("a", way)
    return Running(job_a, out, logs, memory=memory, timeout=timeout, command=fake.command, grace=grace).wait()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_success(fake: FakeExports) -> None:
    ending = ended(fake, "sleep0.3")
    assert (ending.status, ending.error) == (0, None)
    assert ending.document == {"bundle": str(fake.root / "out" / "a")}
    assert ending.seconds >= 0.3
    assert (fake.root / "out" / "a" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("way", "code", "says"),
    [
        ("error", "parity", "not the same"),
        ("crash", "crashed", "it was ended by SIGSEGV: Segmentation fault, or so"),
        ("silent", "no-result", "it ended without a result"),
    ],
)
def test_how_it_can_fail(fake: FakeExports, way: str, code: str, says: str) -> None:
    ending = ended(fake, way)
    assert ending.error is not None
    assert (ending.error["code"], ending.error["message"]) == (code, says)
    assert ending.document is None


@linux
def test_too_much_memory_ends_it(fake: FakeExports) -> None:
    ending = ended(fake, "memory", memory=100_000_000)
    assert ending.error is not None
    assert ending.error["code"] == "memory-limit"
    assert "more than its limit of 0.1 GB" in ending.error["message"]
    assert ending.peak_bytes is not None
    assert ending.peak_bytes > 100_000_000
    assert ending.seconds < 20
    assert not alive(fake.processes[0])


def test_too_long_ends_it(fake: FakeExports) -> None:
    ending = ended(fake, "sleep60", timeout=0.5)
    assert ending.error is not None
    assert ending.error["code"] == "timeout"
    assert ending.seconds < 20


def test_what_ignores_the_request_is_killed(fake: FakeExports) -> None:
    ending = ended(fake, "deaf", timeout=1, grace=0.5)
    assert ending.status == -signal.SIGKILL
    assert ending.error is not None
    assert ending.error["code"] == "timeout"


def test_an_interruption_ends_it(fake: FakeExports, monkeypatch: pytest.MonkeyPatch) -> None:
    original = time.sleep
    interrupts = iter([KeyboardInterrupt()])

    def interrupt(seconds: float) -> None:
        if fake.log.exists() and (once := next(interrupts, None)) is not None:
            raise once
        original(seconds)

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ended(fake, "sleep60")
    assert not alive(fake.processes[0])


@linux
def test_memory_of_grandchildren_counts() -> None:
    code = (
        "import subprocess, sys, time; print(); sys.stdout.flush(); kept = bytearray(b'x' * 80_000_000); time.sleep(60)"
    )
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {code!r}])"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", outer], start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        try:
            deadline = time.monotonic() + 20
            while (resident(process.pid) or 0) < 80_000_000 and time.monotonic() < deadline:
                time.sleep(0.05)
            used = resident(process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert used is not None
    assert 80_000_000 < used < 300_000_000


@linux
def test_the_real_command_ends_with_its_parent(tmp_path: Path) -> None:
    """The process of the command must end when its parent is killed."""
    words = [word.replace('"xxdeploy"', '"sleeper"') for word in COMMAND]
    (tmp_path / "sleeper.py").write_text(
        "import os, time, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        f"words = [str(os.getpid()) if word == '{{parent}}' else word for word in {words!r}]\n"
        "subprocess.Popen([sys.executable, *words], start_new_session=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = int((tmp_path / "pid").read_text())
        assert alive(child)
        process.kill()
        process.wait()
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = alive(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    assert not left


def test_stop_waits_until_it_is_gone(fake: FakeExports) -> None:
    running = Running(job("a", "sleep60"), fake.root / "a", fake.root, memory=10**9, timeout=60, command=fake.command)
    while not fake.log.exists():
        assert running.poll() is None
        time.sleep(0.02)
    running.stop()
    assert not alive(fake.processes[0])
