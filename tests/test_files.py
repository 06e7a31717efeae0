"""Atomic writes, bounded reads, hashes, users' TOML files, the cache folder, and child processes."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import xxdeploy
from xxdeploy import files
from xxdeploy.errors import UsageError
from xxdeploy.files import (
    CACHE_VARIABLE,
    MAX_TOML_BYTES,
    TomlFile,
    cache_folder,
    child_python,
    read_bounded,
    sha256,
    write_atomic,
    write_new,
)

FILE = TomlFile(
    noun="the plan",
    missing_code="no-recipe",
    missing_hint="give a file",
    bad_code="bad-recipe",
    bad_hint="its keys are a and b",
)
TYPES = {"a": int, "b": str}
posix = pytest.mark.skipif(os.name != "posix", reason="modes and pipes are POSIX")


def test_a_file_is_replaced_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_atomic(path, b"old")
    write_atomic(path, "new \N{SNOWMAN}\n")
    assert path.read_bytes() == "new \N{SNOWMAN}\n".encode()
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ranges.json"
    write_atomic(path, b"old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


@posix
def test_a_new_file_has_its_mode_and_replaces_nothing(tmp_path: Path) -> None:
    write_new(tmp_path / "key", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "key", b"other")
    assert (tmp_path / "key").read_bytes() == b"secret"


def test_a_read_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes") as caught:
        read_bounded(tmp_path / "a", 4)
    assert caught.value.errno == errno.EFBIG


@posix
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait forever
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file") as caught:
            read_bounded(path, 100)
        assert caught.value.errno == errno.EINVAL


def test_values_and_their_types(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text('\ufeffa = 3\nb = "x"', encoding="utf-8")
    assert FILE.read(path, TYPES) == FILE.read(path) == {"a": 3, "b": "x"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#" * (MAX_TOML_BYTES + 1), "it is larger than 1 MB"),
        (b"a = " + b"[" * 100_000, "it is nested too deeply"),
        (b"a", "it is not TOML: "),
        (b"a = '\xff'", "it is not TOML: "),
        (b'{"a": 1}', "it is not TOML: "),
        (b"c = 1", "unknown keys: 'c'"),
        (b"a = true", "a must be int, not True"),
        (b"b = [1]", "b must be str, not [1]"),
    ],
)
def test_a_file_that_is_wrong(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        FILE.read(path, TYPES)
    assert caught.value.message.startswith(f"the plan {path}: {says}")
    assert (caught.value.code, caught.value.hint) == ("bad-recipe", FILE.bad_hint)


@pytest.mark.parametrize("name", ["absent.toml", ".", "null\0byte"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read") as caught:
        FILE.read(tmp_path / name)
    assert (caught.value.code, caught.value.hint) == ("no-recipe", "give a file")


def test_json_where_it_is_accepted(tmp_path: Path) -> None:
    either = TomlFile("x", "no-recipe", "", "bad-recipe", "", json=True)
    (tmp_path / "a").write_text(' {"a": [1]}')
    assert either.read(tmp_path / "a") == {"a": [1]}
    (tmp_path / "a").write_text("{" + '"a":{' * 100_000)
    with pytest.raises(UsageError, match="nested too deeply"):
        either.read(tmp_path / "a")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/xxdeploy/tuned"),
        ("linux", {}, "/home/a/.cache/xxdeploy/tuned"),
        ("darwin", {}, "/home/a/Library/Caches/xxdeploy/tuned"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/xxdeploy/tuned"),
        ("win32", {CACHE_VARIABLE: "/mine"}, "/mine/tuned"),
    ],
)
def test_where_the_cache_is(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", CACHE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/a"))
    assert cache_folder("tuned") == Path(expected)


def test_no_home_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder("tuned") is None


def test_a_child_imports_this_package_and_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xxdeploy.py").write_text("raise SystemExit('from the working folder')")
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}/elsewhere")
    code = (
        "import os, sys, xxdeploy\n"
        "print(xxdeploy.__file__, '/elsewhere' in sys.path, os.environ['ANSWER'], sys.argv[1])"
    )
    command, environment = child_python("-c", code, "last", ANSWER="42")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [xxdeploy.__file__, "True", "42", "last"]


@pytest.mark.parametrize("content", [b"", b"abc", b"\x00" * 100_000])
@pytest.mark.parametrize("loaded", [True, False])
def test_the_digest_is_that_of_hashlib(content: bytes, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not loaded:
        monkeypatch.delitem(sys.modules, "_hashlib", raising=False)
    expected = hashlib.sha256(content).hexdigest()
    assert sha256(content).hexdigest() == expected
    for size in (len(content), files.HASHED_BY_PYTHON + 1):
        hashed = sha256(size=size)
        hashed.update(content[:10])
        hashed.update(content[10:])
        assert hashed.hexdigest() == expected


def test_a_python_without_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "_hashlib", raising=False)
    monkeypatch.setattr(files, "OWN_SHA256", ("xxdeploy_absent", "sys"))
    assert sha256(b"abc").hexdigest() == hashlib.sha256(b"abc").hexdigest()
