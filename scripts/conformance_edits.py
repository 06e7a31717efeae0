"""Edits that spoil a bundle: one value of the manifest, one file, or the text of the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Edit = Callable[[Path], None]


def set_at(*path: str | int, value: Any) -> Edit:
    """Return an edit that sets one value of the manifest."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return document_with(change)


def without(*path: str | int) -> Edit:
    """Return an edit that deletes one key of the manifest."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return document_with(change)


def in_text(old: str, new: str) -> Edit:
    """Return an edit that replaces the first ``old`` in the manifest's text."""

    def edit(bundle: Path) -> None:
        text = (bundle / "manifest.json").read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"error: there is no {old!r} in {bundle}/manifest.json")
        (bundle / "manifest.json").write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def content(name: str, data: bytes | Callable[[bytes], bytes]) -> Edit:
    """Return an edit that replaces a file and leaves its hash in the manifest as it was."""

    def edit(bundle: Path) -> None:
        (bundle / name).write_bytes(data((bundle / name).read_bytes()) if callable(data) else data)

    return edit


def vouched(name: str, data: bytes | Callable[[bytes], bytes]) -> Edit:
    """Return an edit that replaces a file and writes its size and hash into the manifest."""

    def edit(bundle: Path) -> None:
        content(name, data)(bundle)
        fresh = (bundle / name).read_bytes()

        def change(document: Any) -> None:
            entry = next(entry for entry in document["files"] if entry["path"] == name)
            entry.update(sha256=hashlib.sha256(fresh).hexdigest(), size=len(fresh))

        document_with(change)(bundle)

    return edit


def replaced(name: str, other: Path) -> Edit:
    """Return an edit that puts another file, at a path from the bundle, in the place of one, with its hash."""
    return lambda bundle: vouched(name, (bundle / other).read_bytes())(bundle)


def document_with(change: Callable[[Any], None]) -> Edit:
    """Return an edit that changes the manifest, read as JSON."""

    def edit(bundle: Path) -> None:
        file = bundle / "manifest.json"
        document = json.loads(file.read_text(encoding="utf-8"))
        change(document)
        file.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")

    return edit


def all_of(*edits: Edit) -> Edit:
    """Return the edit that makes several edits, one after the other."""

    def edit(bundle: Path) -> None:
        for one in edits:
            one(bundle)

    return edit


def sized(name: str, size: int) -> Edit:
    """Return an edit that gives a file ``size`` bytes, by a hole at its end."""

    def edit(bundle: Path) -> None:
        with (bundle / name).open("r+b") as file:
            file.truncate(size)

    return edit


def linked(name: str, target: str) -> Edit:
    """Return an edit that puts a symbolic link in the place of a file."""

    def edit(bundle: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).symlink_to(target)

    return edit


def as_folder(name: str) -> Edit:
    """Return an edit that puts an empty folder in the place of a file."""

    def edit(bundle: Path) -> None:
        (bundle / name).unlink()
        (bundle / name).mkdir()

    return edit


def removed(name: str) -> Edit:
    """Return an edit that deletes a file."""
    return lambda bundle: (bundle / name).unlink()


def flipped(data: bytes) -> bytes:
    """Return ``data`` with one bit of the last byte changed."""
    return data[:-1] + bytes([data[-1] ^ 1])
