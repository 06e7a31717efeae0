"""Checks a bundle without running it."""

from __future__ import annotations

import os
from pathlib import Path

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.contents import labels_from_text
from xxdeploy.runtime.bundle.files import check_entry, open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import MANIFEST, Manifest
from xxdeploy.runtime.bundle.signature import SIGNATURES, Trust
from xxdeploy.runtime.selftest import read_golden


def check_bundle(path: str | os.PathLike[str], trust: Trust | None = None) -> Manifest:
    """Compare every file with its size and hash, then labels and golden pairs with the manifest.

    No engine is needed and no model is parsed. Unlike ``runtime.load`` this also refuses files that the
    manifest does not list: they are not vouched for. The signature that ``trust`` asks for comes first.

    Raises
    ------
    BundleError
        As ``runtime.load``; ``file-extra``, ``labels-invalid``, ``golden-invalid``, ``array-invalid``.
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
        labels_from_text(read_entry(root, labels), manifest.classes)
    for variant in manifest.variants:
        read_golden(root, manifest, variant)
    return manifest


def extra_files(root: Path, manifest: Manifest) -> list[str]:
    """Return the files and links below ``root`` that the manifest does not list, sorted; its signature is none."""
    listed = {MANIFEST, SIGNATURES[MANIFEST], *(entry.path for entry in manifest.files)}
    found: set[str] = set()
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found.update(Path(folder, name).relative_to(root).as_posix() for name in (*files, *links))
    return sorted(found - listed)
