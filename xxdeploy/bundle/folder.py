"""The folder of a bundle: whether it is whole, whether it may be (re)written, and temporary folders next to it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime.bundle.contents import labels_from_text
from xxdeploy.runtime.bundle.files import check_entry, open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import MANIFEST, Manifest
from xxdeploy.runtime.bundle.signature import OMS_SIGNATURE, SIGNATURES, Trust
from xxdeploy.runtime.selftest import read_golden

_LIFE = secrets.token_hex(4)
"""Tells the folders of this process from those of an earlier one with its number (process 1 of a container)."""
OLD = "old"
"""Name, inside a temporary folder, of a bundle that was moved aside to make room."""


def check_bundle(path: str | os.PathLike[str], trust: Trust | None = None) -> Manifest:
    """Check the signature that ``trust`` asks for, every file's size and hash, then labels and golden pairs.

    No model is parsed. Unlike ``runtime.load`` this refuses files that the manifest does not list (``BundleError``
    ``file-extra``); else as ``runtime.load``, ``labels_from_text`` and ``read_golden``.
    """
    root, manifest = open_bundle(path, trust)
    for entry in manifest.files:
        check_entry(root, entry)
    if extras := extra_files(root, manifest):
        raise BundleError(
            f"the bundle holds {len(extras)} files that its manifest does not list: {', '.join(extras[:5])[:300]!r}",
            hint="remove them, or copy the bundle again",
            code="file-extra",
        )
    if manifest.labels is not None:
        labels = next(entry for entry in manifest.files if entry.path == manifest.labels)
        labels_from_text(read_entry(root, labels), manifest.classes, characters=manifest.blank is not None)
    for variant in manifest.variants:
        read_golden(root, manifest, variant)
    return manifest


def extra_files(root: Path, manifest: Manifest) -> list[str]:
    """Return the files and links below ``root`` that the manifest does not list, sorted; its signatures are none."""
    listed = {MANIFEST, SIGNATURES[MANIFEST], OMS_SIGNATURE, *(entry.path for entry in manifest.files)}
    present: set[str] = set()
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        present.update(Path(folder, name).relative_to(root).as_posix() for name in (*files, *links))
    return sorted(present - listed)


def output_writable(out: str | os.PathLike[str], force: bool) -> None:
    """Fail now rather than after minutes of conversion, if ``pack`` could not write to ``out``.

    Leftovers of killed runs are removed. ``UsageError``: ``output-exists`` (something is there and ``force`` is not
    given), ``output-not-a-bundle`` (even ``force`` replaces only a bundle or an empty folder), ``output-unwritable``,
    ``disk-full``.
    """
    target = resolved(out)
    try:
        ancestor = target.parent
        while not ancestor.exists():
            ancestor = ancestor.parent
        remove_stale(target, ancestor)  # first: it may give back a bundle, which then exists
        exists = target.exists()
        if exists and not force:
            raise UsageError(
                f"{out} already exists", hint="choose another --out, or replace it with --force", code="output-exists"
            )
        if exists:
            _check_replaceable(target)
        # A real attempt: permission bits say little on network drives, read-only mounts and for root.
        probe = temporary_path(target, ancestor)
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise output_error(out, error) from error


def resolved(out: str | os.PathLike[str]) -> Path:
    """Follow links: ``--force`` replaces the target of a link. ``UsageError`` ``output-unwritable``."""
    try:
        return Path(out).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null byte
        raise output_error(out, OSError(str(error))) from error


def output_error(out: str | os.PathLike[str], error: OSError) -> UsageError:
    """Return the error for a person who asked for ``out``, where the file system failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(
            f"no space is left for {out}", hint="free some space, or choose --out on another disk", code="disk-full"
        )
    return UsageError(
        f"{out} cannot be written: {error.strerror or error}",
        hint="choose another --out, or check the permissions of its folder",
        code="output-unwritable",
    )


def _check_replaceable(target: Path) -> None:
    try:
        if target.is_dir() and not any(target.iterdir()):
            return
        root, manifest = open_bundle(target)
        extras = extra_files(root, manifest)
    except (BundleError, OSError) as error:
        raise _not_a_bundle(target, "it is not a bundle of this version") from error
    if extras:
        raise _not_a_bundle(target, f"it holds {extras[0]!r}, which is not part of the bundle")


def _not_a_bundle(target: Path, why: str) -> UsageError:
    return UsageError(
        f"{target} is not replaced: {why}",
        hint="move or delete it yourself, or choose another --out",
        code="output-not-a-bundle",
    )


def temporary_path(target: Path, parent: Path) -> Path:
    """Return a new name in ``parent``, from which a later run can tell which process made it."""
    return parent / f"{prefix(target)}{os.getpid()}-{_LIFE}{secrets.token_hex(4)}"


def prefix(target: Path) -> str:
    """Begin of the names of all temporary folders for ``target``: on another host a process number means nothing."""
    host = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:32]
    return f".xxdeploy-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-{host}-"


def remove_stale(target: Path, parent: Path) -> None:
    """Remove leftovers of killed runs in ``parent``, after giving back a bundle that was moved aside."""
    for folder in parent.glob(f"{prefix(target)}*-*"):
        process, _, life = folder.name.removeprefix(prefix(target)).partition("-")
        if not process.isdigit() or _alive(int(process), life):
            continue
        if (folder / OLD / MANIFEST).exists() and not target.exists():
            (folder / OLD).rename(target)
        shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int, life: str) -> bool:
    """Tell whether the process of that number runs; if it is this one, whether this run of it made the folder."""
    if process == os.getpid():
        return life.startswith(_LIFE)
    if os.name != "posix":  # there os.kill(process, 0) is no question but Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is somebody else's
        return True
    return True
