"""Writes a bundle, all of it or nothing.

Everything is written and flushed to a temporary folder next to the target, which then takes the
target's place in one step. A killed process leaves the old bundle or the new one, and at worst a
temporary folder that the next run removes (``folder.remove_stale``).
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.bundle.folder import OLD, output_error, output_writable, resolved, temporary_path
from xxdeploy.files import write_new
from xxdeploy.runtime.bundle.manifest import MANIFEST, FileEntry, Manifest
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput, InputForm, SeveralInputs
from xxdeploy.runtime.inputs import pack as pack_inputs

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange_folders(one: Path, other: Path) -> bool:
    """Swap two folders in one step, if kernel and file system can (Linux, renameat2); else return False."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # another libc or system
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """How a bundle gets onto the disk: ``write`` makes a new file, and ``exchange`` swaps two folders if it can."""

    write: Callable[[Path, bytes], None] = write_new
    exchange: Callable[[Path, Path], bool] = exchange_folders


def pack(
    manifest: Manifest,
    parts: Mapping[str, bytes],
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    disk: Disk | None = None,
) -> Path:
    """Write ``parts`` and the manifest that lists them to the folder ``out``; return it.

    ``manifest.files`` must be empty: sizes and hashes are computed here. ``parts`` maps paths in the bundle to their
    content; equal parts and manifest make byte-identical bundles. Missing parents of ``out`` are made; ``force``
    replaces a bundle or an empty folder, nothing else. ``UsageError`` as ``output_writable``, with nothing left over;
    ``BundleError`` as ``Manifest``, when manifest and parts do not fit each other.
    """
    text = _manifest_text(manifest, parts)
    output_writable(out, force)
    target = resolved(out)
    made = _make_parents(target, out)
    try:
        _write_and_swap(target, {**parts, MANIFEST: text}, force, disk or Disk())
    except BaseException as error:
        for folder in made:
            _remove_if_empty(folder)
        if isinstance(error, OSError):
            raise output_error(out, error) from error
        raise
    return Path(out)


def _manifest_text(manifest: Manifest, parts: Mapping[str, bytes]) -> bytes:
    if manifest.files:
        raise ValueError("pack() fills in the files of the manifest")
    files = tuple(
        FileEntry(path, hashlib.sha256(content).hexdigest(), len(content)) for path, content in sorted(parts.items())
    )
    text = dataclasses.replace(manifest, files=files).to_json().encode()
    Manifest.from_json(text)  # the written manifest can be read: nothing is unlisted or too large
    return text


def _write_and_swap(target: Path, contents: Mapping[str, bytes], force: bool, disk: Disk) -> None:
    # The bundle grows one level down, so that the temporary folder itself is never taken for one.
    temporary = temporary_path(target, target.parent)
    fresh, old = temporary / "new", temporary / OLD
    try:
        temporary.mkdir()
        fresh.mkdir()
        for path, content in contents.items():
            (fresh / path).parent.mkdir(parents=True, exist_ok=True)
            disk.write(fresh / path, content)
        for folder, _, _ in os.walk(fresh, topdown=False):
            _flush_folder(Path(folder))
        if not (force and target.exists()):
            fresh.rename(target)  # fails if somebody else has put files there since output_writable()
        elif not disk.exchange(fresh, target):
            _replace_in_two_steps(fresh, target, old)
        _flush_folder(target.parent)
    finally:
        # `old` alone is the bundle that was there: remove_stale() gives it back.
        if not old.exists() or target.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _flush_folder(folder: Path) -> None:
    """Make names durable, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace_in_two_steps(fresh: Path, target: Path, old: Path) -> None:
    """Where folders cannot be swapped there is a moment without a bundle; a kill in it is undone by the next run."""
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise


def _make_parents(target: Path, out: str | os.PathLike[str]) -> list[Path]:
    """Make the missing folders above ``target``; return them, innermost first."""
    missing = []
    folder = target.parent
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(out, error) from error
    return missing


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


_SHAPES = 6
_NOISE = 16


def golden_images(n: int, height: int, width: int, channels: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw ``n`` pictures: gradients between four corner colors, rectangles and ellipses, noise.

    Only integers are added and multiplied, so that a mathematics library cannot change a pixel.

    Returns
    -------
    (n, height, width, channels) uint8; equal arguments give equal pictures.
    """
    random = np.random.default_rng([seed, n, height, width, channels])
    return np.stack([_draw(random, height, width, channels) for _ in range(n)])


def golden_inputs(n: int, form: InputForm) -> NDArray[Any]:
    """Draw ``n`` samples as ``form.pixels`` decodes them: pictures of :func:`golden_images`, and numbers.

    Each further input has a seed of its own, so that two pictures differ. Numbers lie in the array's span, 0..1 where
    it is not known, in steps of 1/65536 of it.
    """
    if isinstance(form, SeveralInputs):
        return pack_inputs([_golden_part(n, part, seed) for seed, (_, part) in enumerate(form.parts)])
    return _golden_part(n, form, 0)


def _golden_part(n: int, form: Preprocess | ArrayInput, seed: int) -> NDArray[Any]:
    if isinstance(form, Preprocess):
        return golden_images(n, form.height, form.width, form.channels, seed=seed)
    low, high = form.span or (0.0, 1.0)
    steps = np.random.default_rng([seed, n, *form.shape]).integers(0, (1 << 16) + 1, (n, *form.shape))
    return np.asarray(low + (high - low) * (steps / (1 << 16)), np.float32)


def _draw(random: np.random.Generator, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    rows = np.arange(height, dtype=np.int64)[:, None, None]
    columns = np.arange(width, dtype=np.int64)[None, :, None]
    bottom, right = max(height - 1, 1), max(width - 1, 1)
    corners = random.integers(0, 256, (2, 2, channels))
    upper = corners[0, 0] * (right - columns) + corners[0, 1] * columns
    lower = corners[1, 0] * (right - columns) + corners[1, 1] * columns
    picture: NDArray[np.int64] = (upper * (bottom - rows) + lower * rows) // (bottom * right)
    for number in range(_SHAPES):
        y, x = random.integers(0, height), random.integers(0, width)
        half_height, half_width = random.integers(1, height // 3 + 2), random.integers(1, width // 3 + 2)
        down, across = np.abs(rows - y) * half_width, np.abs(columns - x) * half_height
        limit = half_height * half_width
        inside = np.maximum(down, across) <= limit if number % 2 else down**2 + across**2 <= limit**2
        picture = np.where(inside, random.integers(0, 256, channels), picture)
    picture = picture + random.integers(-_NOISE, _NOISE + 1, picture.shape)
    return picture.clip(0, 255).astype(np.uint8)
