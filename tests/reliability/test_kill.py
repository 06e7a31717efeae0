"""An export that is killed at any step leaves the old bundle or the new one, and nothing that stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.bundle.folder import check_bundle, output_writable
from xxdeploy.bundle.pack import Disk, pack
from xxdeploy.errors import UsageError
from xxdeploy.files import write_new

# A process that counts the system's steps while it packs, and kills itself at step N, as a power cut would.
CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny_bundle
from xxdeploy.bundle.pack import Disk, exchange_folders, pack
parts, manifest = tiny_bundle.parts_and_manifest(seed=1)
left = int(sys.argv[3])
def step(event, arguments):
    global left
    kinds = ("os.mkdir", "open", "os.rename", "shutil.rmtree", "os.rmdir", "os.remove")
    if event in kinds and ".xxdeploy-" in str(arguments):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(step)
def swap(one, other):
    done = exchange_folders(one, other)
    step("os.rename", ".xxdeploy-")
    return done
disk = Disk(exchange=(lambda one, other: False) if sys.argv[4] == "two-steps" else swap)
pack(manifest, parts, sys.argv[2], force=True, disk=disk)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("swap", ["one-step", "two-steps"])
def test_killed_at_every_step(tmp_path: Path, swap: str) -> None:
    tests = str(Path(tiny_bundle.__file__).parent)
    parts, manifest = tiny_bundle.parts_and_manifest(seed=1)
    out = tmp_path / "b"
    killed = 0
    for at in range(0, 60, 3 if swap == "one-step" else 4):
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        old = tiny_bundle.make(out)
        before = check_bundle(old).name
        done = subprocess.run([sys.executable, "-c", CHILD, tests, str(out), str(at), swap], check=False, timeout=60)
        output_writable(out, force=True)  # what the next export does first: it gives back and cleans up
        there = check_bundle(out).name
        assert there in (before, manifest.name)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]
        if done.returncode == 0:
            assert there == manifest.name
            assert {name: (out / name).read_bytes() for name in parts} == parts
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
    else:
        pytest.fail("it was never left alive")
    assert killed >= 3


def test_two_exports_to_one_place_leave_one_whole_bundle(tmp_path: Path) -> None:
    made = [tiny_bundle.parts_and_manifest(seed=seed) for seed in range(4)]
    for force in (False, True):
        outcomes: list[str] = []

        def write(number: int, force: bool = force, outcomes: list[str] = outcomes) -> None:
            parts, manifest = made[number]
            try:
                pack(manifest, parts, tmp_path / "b", force=force)
                outcomes.append("written")
            except UsageError as error:
                outcomes.append(error.code)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert "written" in outcomes
        assert set(outcomes) <= {"written", "output-exists", "output-unwritable", "output-not-a-bundle"}
        assert check_bundle(tmp_path / "b").name.startswith("tiny-")
        assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    import errno

    parts, manifest = tiny_bundle.parts_and_manifest()

    def write(path: Path, content: bytes) -> None:
        if path.name == "labels.txt":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_new(path, content)

    with pytest.raises(UsageError) as caught:
        pack(manifest, parts, tmp_path / "deep" / "b", disk=Disk(write=write))
    assert caught.value.code == "disk-full"
    assert list(tmp_path.iterdir()) == []
