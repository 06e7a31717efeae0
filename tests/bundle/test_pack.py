"""All or nothing: whatever happens on the way, the old bundle, the new one, or nothing is there."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import tiny_bundle

from xxdeploy.bundle.folder import check_bundle, prefix, remove_stale
from xxdeploy.bundle.pack import Disk, exchange_folders, golden_images, pack
from xxdeploy.errors import BundleError, UsageError, XXDeployError

T = TypeVar("T")
TWO_STEPS = Disk(exchange=lambda *_: False)
"""A file system that cannot swap two folders."""


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_written_and_that_it_repeats(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    out = pack(manifest, parts, tmp_path / "deep" / "er" / "b")
    assert out == tmp_path / "deep" / "er" / "b"
    assert sorted(content(out)) == sorted([*parts, "manifest.json"])
    again = pack(manifest, dict(reversed(parts.items())), tmp_path / "other")
    assert content(again) == content(out)
    assert [entry.path for entry in check_bundle(out).files] == sorted(parts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "other"]


def test_other_users_may_read_it(tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("permission bits of POSIX")
    old = os.umask(0o022)
    try:
        out = tiny_bundle.make(tmp_path / "b")
    finally:
        os.umask(old)
    assert out.stat().st_mode & 0o777 == 0o755
    assert (out / "manifest.json").stat().st_mode & 0o777 == 0o644


def test_force_replaces_a_bundle_whole(tmp_path: Path) -> None:
    out = tiny_bundle.make(tmp_path / "b", features=False)
    parts, manifest = tiny_bundle.parts_and_manifest(features=True)
    with pytest.raises(UsageError) as caught:
        pack(manifest, parts, out)
    assert caught.value.code == "output-exists"
    assert check_bundle(out).task == "classification"
    pack(manifest, parts, out, force=True)
    assert check_bundle(out).task == "features"
    assert not (out / "labels.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    real = tiny_bundle.make(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(real)
    parts, manifest = tiny_bundle.parts_and_manifest(seed=1)
    pack(manifest, parts, link, force=True)
    assert link.is_symlink()
    assert check_bundle(real).name == "tiny-1"


@pytest.mark.parametrize("swap", ["exchange", "two steps"])
def test_both_ways_of_swapping(tmp_path: Path, swap: str) -> None:
    out = tiny_bundle.make(tmp_path / "b")
    parts, manifest = tiny_bundle.parts_and_manifest(seed=1)
    pack(manifest, parts, out, force=True, disk=TWO_STEPS if swap == "two steps" else Disk())
    assert check_bundle(out).name == "tiny-1"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_parts_and_manifest_must_fit(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    for broken in ({**parts, "../escape": b"x"}, {**parts, "manifest.json": b"x"}, {"model.onnx": b"x"}):
        with pytest.raises(BundleError):
            pack(manifest, broken, tmp_path / "b")
    with pytest.raises(BundleError):
        pack(dataclasses.replace(manifest, evidence={"x": float("nan")}), parts, tmp_path / "b")
    with pytest.raises(ValueError, match="fills in"):
        pack(check_bundle(tiny_bundle.make(tmp_path / "made")), parts, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


class Trouble:
    """Raises at the n-th call of any function that changes the file system."""

    CHANGES = ((os, "fsync"), (Path, "mkdir"), (Path, "open"), (Path, "rename"))

    def __init__(self, at: int, make: Callable[[], BaseException]) -> None:
        self.left, self.make = at, make

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in self.CHANGES:
            patch.setattr(owner, name, self.wrapped(getattr(owner, name)))

    def disk(self, *, two_steps: bool) -> Disk:
        return Disk(exchange=self.wrapped(TWO_STEPS.exchange if two_steps else exchange_folders))

    def wrapped(self, function: Callable[..., T]) -> Callable[..., T]:
        def call(*args: object, **kwargs: object) -> T:
            self.left -= 1
            if self.left == 0:
                raise self.make()
            return function(*args, **kwargs)

        return call


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("two_steps", [True, False])
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (KeyboardInterrupt, None),
        (lambda: OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (lambda: OSError(errno.EIO, "Input/output error"), "output-unwritable"),
    ],
    ids=["ctrl-c", "disk-full", "io-error"],
)
def test_an_interruption_anywhere_leaves_nothing_half_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], BaseException],
    code: str | None,
    two_steps: bool,
    existing: bool,
) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest(seed=1)
    out = tmp_path / "exports" / "b"
    if existing:
        tiny_bundle.make(out)
    points = 0
    finished = False
    while not finished:
        points += 1
        with monkeypatch.context() as patch:
            trouble = Trouble(points, make)
            trouble.install(patch)
            caught: BaseException | None = None
            try:
                pack(manifest, parts, out, force=existing, disk=trouble.disk(two_steps=two_steps))
            except (KeyboardInterrupt, XXDeployError) as error:
                caught = error
        finished = caught is None
        assert finished or getattr(caught, "code", None) == code
        state = sorted(path.name for path in tmp_path.rglob("*") if path.parent.name != "golden" and path.parent != out)
        if existing:
            assert state == ["b", "exports"]
            assert check_bundle(out).name in ("tiny-0", "tiny-1")
            assert check_bundle(out).name == "tiny-1" or not finished
            shutil.rmtree(out)
            tiny_bundle.make(out)
        elif state:  # complete although the last flush failed, or finished
            assert state == ["b", "exports"]
            assert check_bundle(out).name == "tiny-1"
            shutil.rmtree(tmp_path / "exports")
    assert points > 15


KILLER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tiny_bundle
from xxdeploy.bundle.pack import Disk, exchange_folders, pack

out, at, two_steps = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True"
parts, manifest = tiny_bundle.parts_and_manifest(seed=1)

def child(at):
    left = at
    def killing(plain):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **kwargs)
        return call
    exchange = killing((lambda *_: False) if two_steps else exchange_folders)
    for name in ("fsync", "unlink", "rmdir", "mkdir", "rename", "open"):
        setattr(os, name, killing(getattr(os, name)))
    pack(manifest, parts, out, force=True, disk=Disk(exchange=exchange))
    os._exit(0)

while True:
    process = os.fork()
    if not process:
        child(at)
    status = os.waitpid(process, 0)[1]
    print(at, int(os.WIFSIGNALED(status)), flush=True)
    sys.stdin.readline()
    at += 1
"""


@pytest.mark.parametrize("two_steps", [False, True])
def test_kill_9_before_every_system_call(tmp_path: Path, two_steps: bool) -> None:
    """The process dies before its n-th change of the file system, for every n: old or new, never a mix.

    Where two folders cannot be swapped in one step there is a moment without either; the next run mends it.
    """
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    out = tiny_bundle.make(tmp_path / "b")
    old, seen, leftovers = content(out), set(), 0
    tests = str(Path(tiny_bundle.__file__).parent)
    command = [sys.executable, "-c", KILLER, tests, str(out), "1", str(two_steps)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        points = 0
        while True:
            points, killed = map(int, process.stdout.readline().split())
            leftovers += sum(path.name.startswith(".xxdeploy-") for path in tmp_path.iterdir())
            if two_steps and not out.exists():
                seen.add("moved aside")
                remove_stale(out, tmp_path)
            seen.add(check_bundle(out).name)
            # The next run cleans up before it writes; here without writing, so that the state stays to be compared.
            remove_stale(out, tmp_path)
            assert [path.name for path in tmp_path.iterdir()] == ["b"]
            if check_bundle(out).name == "tiny-1":
                shutil.rmtree(out)
                tiny_bundle.make(out)
            assert content(out) == old
            if not killed:
                break
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
    assert points > 25
    assert leftovers > 10
    assert seen == {"tiny-0", "tiny-1", *({"moved aside"} if two_steps else set())}


def test_only_stale_folders_of_ours_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "b"
    mine = prefix(out)
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, alive = int(done.stdout), os.getppid()
    names = {
        f"{mine}{dead}-aa": False,
        f"{mine}{os.getpid()}-bb": False,
        f"{mine}{alive}-cc": True,
        f"{mine}x-dd": True,
        f"{prefix(tmp_path / 'other')}{dead}-ee": True,
        ".xxdeploy-notes": True,
    }
    for name in names:
        (tmp_path / name / "new").mkdir(parents=True)
        (tmp_path / name / "new" / "manifest.json").write_text("{")
        with pytest.raises(BundleError) as caught:
            check_bundle(tmp_path / name)
        assert caught.value.code == "not-a-bundle"
    tiny_bundle.make(out)
    assert {name: (tmp_path / name).exists() for name in names} == names


def test_equal_arguments_give_equal_pictures_and_others_do_not() -> None:
    images = golden_images(3, 40, 30, 3)
    assert images.shape == (3, 40, 30, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, golden_images(3, 40, 30, 3))
    assert not np.array_equal(images, golden_images(3, 40, 30, 3, seed=1))
    assert not np.array_equal(images[0], images[1])


def test_the_pixels_are_the_same_everywhere() -> None:
    """Fixed once: a changed digest means that bundles made before and after differ."""
    digest = hashlib.sha256(golden_images(2, 33, 47, 3).tobytes()).hexdigest()
    assert digest == "485215fb4bdcd07450622e35415baed1c1755f44ea79e465fadb7911440431d8"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (28, 28, 1), (600, 600, 3)])
def test_sizes(shape: tuple[int, int, int]) -> None:
    assert golden_images(1, *shape).shape == (1, *shape)


def test_the_whole_range_is_used() -> None:
    for image in golden_images(8, 64, 64, 3):
        assert np.ptp(image) > 100
        assert image.std() > 15
