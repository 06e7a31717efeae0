"""Files, hashes, the cache folder and child processes, written once. Standard library only, and quick to import."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import stat
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

CACHE_VARIABLE = "XXDEPLOY_CACHE"
"""Environment variable that names a folder to use instead of the user's cache."""
MAX_TOML_BYTES = 1_000_000
HASHED_BY_PYTHON = 8_000_000
"""Bytes of all files from which OpenSSL is worth loading: Python's own code takes 25 ms for them."""
OWN_SHA256 = ("_sha2", "_sha256")
"""Modules of Python 3.12 and later, and of 3.11."""


def write_new(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file and flush it to the disk. ``OSError``; ``FileExistsError`` if it exists.

    It is created with ``mode`` (less the umask), so there is no moment in which others could read a secret.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8. Missing folders are made.

    A reader sees the old content or the new, also after a kill or a power cut. ``OSError`` leaves no temporary file;
    a kill may leave ``.NAME-xxxxxxxx`` next to the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
    try:
        write_new(temporary, content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a regular file to read its bytes, unbuffered; ``OSError``, with ``EINVAL`` for a folder, pipe or device."""
    # Non-blocking, because opening a pipe that nobody writes to would wait forever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return io.FileIO(handle)


def read_bounded(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the bytes of a regular file; ``OSError``, with ``EFBIG`` if it has more than ``limit`` bytes."""
    with io.BufferedReader(open_regular(path)) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", os.fspath(path))
    return content


def sha256(content: bytes = b"", *, size: int | None = None) -> Hash:
    """Begin a SHA-256 with ``content``; ``size`` is how many bytes there will be in all, if they are more.

    ``hashlib`` loads OpenSSL, which takes 3.7 MB of memory and 3 ms of a cold start and then hashes 1.8 GB/s where the
    processor has instructions for it. Python's own code hashes 0.3 GB/s and is there already, so it hashes little data.
    """
    if (len(content) if size is None else size) <= HASHED_BY_PYTHON and "_hashlib" not in sys.modules:
        for name in OWN_SHA256:  # a build of Python may lack both
            with contextlib.suppress(ImportError, AttributeError):
                own: Hash = importlib.import_module(name).sha256(content)
                return own
    import hashlib

    return hashlib.sha256(content)


def cache_folder(part: str) -> Path | None:
    """Return the folder that caches ``part``, which need not exist; None where there is no home folder.

    ``$XXDEPLOY_CACHE/part``, or else ``xxdeploy/part`` in the user's cache folder of the operating system.
    """
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]) / part
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "xxdeploy" / part


def child_python(*arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of a Python process that imports this very installation.

    ``variables`` are added to the environment. No module is imported from the working directory (``-P``), and the
    package is found where it is now, which may be a checkout that is not installed.
    """
    home = str(Path(__file__).parent.parent)
    # An empty entry would be the working directory.
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((home, *paths)), **variables}
    return [sys.executable, "-P", *arguments], environment


class TomlFile(NamedTuple):  # a dataclass takes 1 ms more of every start on a device, which reads none
    """A kind of TOML file that users write: how errors call it, and their codes and hints.

    ``json`` accepts a JSON object, too. The file is at most ``MAX_TOML_BYTES`` of UTF-8.
    """

    noun: str
    missing_code: str
    missing_hint: str
    bad_code: str
    bad_hint: str
    json: bool = False

    def read(self, path: Path, types: Mapping[str, type] | None = None) -> dict[str, Any]:
        """Return the values of a file. With ``types``, each key must be one of these, and its value of that type.

        ``UsageError``: ``missing_code`` (no regular file, or unreadable), ``bad_code`` (too large, not TOML, nested too
        deeply, an unknown key, a value of the wrong type).
        """
        import tomllib  # here, since a device reads no TOML

        try:
            content = read_bounded(path, MAX_TOML_BYTES)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            if isinstance(error, OSError) and error.errno == errno.EFBIG:
                raise self.bad(path, f"it is larger than {MAX_TOML_BYTES // 1_000_000} MB") from error
            raise UsageError(
                f"{self.noun} {path} cannot be read: {getattr(error, 'strerror', None) or error}",
                hint=self.missing_hint,
                code=self.missing_code,
            ) from error
        try:
            text = content.decode("utf-8-sig")
            if self.json and text.lstrip().startswith("{"):
                import json

                values: dict[str, Any] = json.loads(text)
            else:
                values = tomllib.loads(text)
        except RecursionError as error:
            raise self.bad(path, "it is nested too deeply") from error
        except ValueError as error:  # of TOML, JSON and UTF-8
            raise self.bad(path, f"it is not TOML{' or JSON' if self.json else ''}: {error}") from error
        if types is not None:
            self.check_keys(path, values, types)
            for key, value in values.items():
                if type(value) is not types[key]:
                    raise self.bad(path, f"{key} must be {types[key].__name__}, not {repr(value)[:80]}")
        return values

    def check_keys(self, path: Path, values: Mapping[str, Any], known: Collection[str], where: str = "") -> None:
        """Raise the error ``bad_code`` for keys that are not ``known``; ``where`` names the table."""
        if unknown := sorted(set(values).difference(known)):
            raise self.bad(path, f"{where}unknown keys: {', '.join(map(repr, unknown[:5]))[:200]}")

    def bad(self, path: Path, problem: str) -> UsageError:
        """Return the error for a file whose content is wrong."""
        return UsageError(f"{self.noun} {path}: {problem}", hint=self.bad_hint, code=self.bad_code)
