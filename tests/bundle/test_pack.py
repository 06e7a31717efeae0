import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_bundle import parts_and_manifest

from xxdeploy.bundle import pack as module
from xxdeploy.bundle.check import check_bundle
from xxdeploy.bundle.pack import pack
from xxdeploy.errors import UsageError

TESTS = Path(__file__).parent.parent


def contents(bundle: Path) -> dict[str, bytes]:
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def write(out: Path, *, seed: int = 0, force: bool = False) -> dict[str, bytes]:
    parts, manifest = parts_and_manifest(seed=seed)
    pack(manifest, parts, out, force=force)
    return contents(out)


def test_equal_parts_give_equal_bytes_that_check(tmp_path: Path) -> None:
    assert write(tmp_path / "a") == write(tmp_path / "deep" / "b")
    assert check_bundle(tmp_path / "a").name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "deep"]  # no temporary folder stays


def test_an_existing_bundle_is_replaced_by_force_only(tmp_path: Path) -> None:
    old = write(tmp_path / "a")
    with pytest.raises(UsageError) as caught:
        write(tmp_path / "a", seed=1)
    assert caught.value.code == "output-exists"
    assert contents(tmp_path / "a") == old
    assert write(tmp_path / "a", seed=1, force=True) != old


def test_force_replaces_nothing_but_a_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError) as caught:
        write(folder, force=True)
    assert caught.value.code == "output-not-a-bundle"
    assert contents(folder) == {"cat.jpg": b"precious"}


def test_an_interrupt_leaves_the_old_bundle_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write(tmp_path / "a")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_exchange", stop)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", seed=1, force=True)
    assert contents(tmp_path / "a") == old
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(UsageError) as caught:
        write(tmp_path / "sub" / "a")
    assert caught.value.code == "disk-full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_process_leaves_the_old_or_the_new_bundle(tmp_path: Path) -> None:
    old, new = write(tmp_path / "a"), write(tmp_path / "b", seed=1)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tiny_bundle import parts_and_manifest\nfrom xxdeploy.bundle.pack import pack\n"
        "pairs = [parts_and_manifest(seed=seed) for seed in (0, 1)]\nprint('ready', flush=True)\n"
        "for turn in range(100000):\n    parts, manifest = pairs[turn % 2]\n"
        "    pack(manifest, parts, sys.argv[2], force=True)\n"
    )
    for turn in range(5):
        arguments = [sys.executable, "-c", code, str(TESTS), str(tmp_path / "a")]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.03 + 0.017 * turn)
            process.send_signal(signal.SIGKILL)
        assert contents(tmp_path / "a") in (old, new)
    write(tmp_path / "a", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]  # what the killed ones left is gone
