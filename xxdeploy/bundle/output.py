"""Where a bundle may be written, asked before any work is done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from xxdeploy.bundle.temporary import remove_stale, temporary_path
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.runtime.bundle.manifest import MANIFEST, Manifest
from xxdeploy.runtime.bundle.signature import SIGNATURES


def output_writable(out: str | os.PathLike[str], force: bool) -> None:
    """Fail now rather than after minutes of conversion, if ``pack`` could not write to ``out``.

    Leftovers of killed runs are removed.

    Raises
    ------
    UsageError
        ``output-exists``: something is there and ``force`` is not given; ``output-not-a-bundle``:
        even ``force`` replaces only a bundle or an empty folder; ``output-unwritable``; ``disk-full``.
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
    """Follow links: with ``--force`` it is what a link points to that is replaced. Code ``output-unwritable``."""
    try:
        return Path(out).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a null byte
        raise output_error(out, OSError(str(error))) from error


def output_error(out: str | os.PathLike[str], error: OSError) -> UsageError:
    """Say what an error of the file system means for the person who asked for ``out``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(
            f"no space is left for {out}", hint="free some space, or choose --out on another disk", code="disk-full"
        )
    return UsageError(
        f"{out} cannot be written: {error.strerror or error}",
        hint="choose another --out, or check the permissions of its folder",
        code="output-unwritable",
    )


def extra_files(root: Path, manifest: Manifest) -> list[str]:
    """Return the files and links below ``root`` that the manifest does not list, sorted; its signature is none."""
    listed = {MANIFEST, SIGNATURES[MANIFEST], *(entry.path for entry in manifest.files)}
    found: set[str] = set()
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found.update(Path(folder, name).relative_to(root).as_posix() for name in (*files, *links))
    return sorted(found - listed)


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
