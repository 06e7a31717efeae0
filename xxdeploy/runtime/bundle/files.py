"""Reads a bundle's files: inside the folder, regular, of the listed size and hash, before any parser sees them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from xxdeploy.errors import BundleError
from xxdeploy.files import open_regular, sha256
from xxdeploy.runtime.bundle.manifest import MANIFEST, FileEntry, Manifest
from xxdeploy.runtime.bundle.signature import MAX_SIGNATURE_BYTES, SIGNATURES, Trust
from xxdeploy.runtime.bundle.strict_json import MAX_BYTES

_BLOCK = 1 << 20
_MOST_CHILDREN = 1000  # of a folder, among which a hint looks for bundles
_NAMED = 3


def open_bundle(bundle: str | os.PathLike[str], trust: Trust | None = None) -> tuple[Path, Manifest]:
    """Return the folder and the manifest, as ``open_signed``."""
    return open_signed(bundle, trust)[:2]


def open_signed(bundle: str | os.PathLike[str], trust: Trust | None) -> tuple[Path, Manifest, int | None]:
    """Return the folder, the manifest, and the version that was signed (None without ``trust``).

    The signature that ``trust`` asks for is checked first; no other file is opened. ``BundleError``:
    ``bundle-not-found``, ``not-a-bundle`` (no ``manifest.json``), and those of ``Trust.version_of`` and
    ``Manifest.from_json``.
    """
    path = Path(bundle)
    try:
        root = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        hint = _bundles_hint(path.parent, otherwise="check the path")
        raise BundleError(f"there is no bundle {path}", hint=hint, code="bundle-not-found") from error
    if not (root / MANIFEST).exists():
        raise BundleError(
            f"{path} is not a bundle: it is no folder with a {MANIFEST}",
            hint=_bundles_hint(path, otherwise="give the folder that `xxdeploy export` wrote"),
            code="not-a-bundle",
        )
    data, version = read_signed(root, MANIFEST, trust)
    return root, Manifest.from_json(data), version


def _bundles_hint(near: Path, *, otherwise: str) -> str:
    """Return a hint with the bundle that ``near`` lies in, or up to three bundles in ``near``, else ``otherwise``."""
    try:
        if near.is_file() and (near.parent / MANIFEST).exists():
            return f"give its folder, {near.parent}"
        children = sorted(islice(near.iterdir(), _MOST_CHILDREN))
        found = [str(child) for child in children if (child / MANIFEST).exists()]
    except (OSError, ValueError):
        return otherwise
    if not found:
        return otherwise
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"bundles there: {', '.join(found[:_NAMED])}{more}"


def read_signed(root: Path, name: str, trust: Trust | None) -> tuple[bytes, int | None]:
    """Return the bytes of a record, once its signature is right, and the version that was signed (None without trust).

    The bytes that were checked are the bytes returned. Raises as ``Trust.version_of``.
    """
    data = read_small(root, name)
    if trust is None:
        return data, None
    other = SIGNATURES[name]
    signature = b"".join(_blocks(root, other, MAX_SIGNATURE_BYTES)) if os.path.lexists(root / other) else None
    return data, trust.version_of(data, name, signature)


def read_small(root: Path, name: str) -> bytes:
    """Return a JSON file of unknown size; one that is too large is cut, and then refused by its parser."""
    return b"".join(_blocks(root, name, MAX_BYTES + 1))


def read_entry(root: Path, entry: FileEntry, *, check: bool = True, total: int = 0) -> bytes:
    """Return the bytes of one file, once they have the listed size and SHA-256: the very bytes that were hashed.

    ``check=False`` leaves out the hash. ``total`` is how many bytes will be hashed with those of other files: for many
    another implementation pays. ``BundleError``: ``file-missing``, ``file-outside``, ``file-not-regular``,
    ``file-unreadable``, ``file-size``, ``file-hash``.
    """
    data = b"".join(_sized(root, entry))
    if check:
        _compare(entry, sha256(data, size=max(total, len(data))).hexdigest())
    return data


def check_entry(root: Path, entry: FileEntry, *, total: int = 0) -> None:
    """Compare size and SHA-256 of one file without holding it in memory. ``total`` and errors as ``read_entry``."""
    digest = sha256(size=max(total, entry.size))
    for block in _sized(root, entry):
        digest.update(block)
    _compare(entry, digest.hexdigest())


def _sized(root: Path, entry: FileEntry) -> Iterator[bytes]:
    size = 0
    for block in _blocks(root, entry.path, entry.size + 1):
        size += len(block)
        yield block
    if size != entry.size:
        raise BundleError(
            f"{entry.path} has {'more' if size > entry.size else size} bytes, the manifest says {entry.size}",
            hint="the bundle is damaged: copy or export it again",
            code="file-size",
        )


def _compare(entry: FileEntry, digest: str) -> None:
    if digest != entry.sha256:
        raise BundleError(
            f"{entry.path} is not the file that was exported (SHA-256 {digest[:12]}…, expected {entry.sha256[:12]}…)",
            hint="the bundle is damaged or was changed: copy or export it again",
            code="file-hash",
        )


def _blocks(root: Path, name: str, limit: int) -> Iterator[bytes]:
    """Yield at most ``limit`` bytes of a regular file inside ``root``."""
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise BundleError(
            f"the bundle has no file {name}", hint="copy or export the bundle again", code="file-missing"
        ) from error
    if not path.is_relative_to(root):
        raise outside(name, path)
    try:
        with open_regular(path) as file:
            while limit > 0 and (block := file.read(min(limit, _BLOCK))):
                limit -= len(block)
                yield block
    except OSError as error:
        if error.errno == errno.EINVAL or path.is_dir():
            raise BundleError(
                f"{name} is not a regular file", hint="copy or export the bundle again", code="file-not-regular"
            ) from error
        raise BundleError(
            f"{name} cannot be read: {error.strerror or error}",
            hint="check the permissions and the disk",
            code="file-unreadable",
        ) from error


def outside(name: str, path: Path) -> BundleError:
    """Return the error for a file ``name`` that is a link to ``path``, which is not in the bundle."""
    return BundleError(
        f"{name} is a link to {path}, outside the bundle",
        hint="copy the bundle with its files (cp -L), not with links",
        code="file-outside",
    )
