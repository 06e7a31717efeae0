"""A set of image files: sampling, digests, and preprocessed batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.crops import Crop
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.picture import HEIC_SUFFIXES
from xxdeploy.runtime.image.resample import Pixels, rounded

if TYPE_CHECKING:
    from xxdeploy.runtime.image.picture import ImageLike
    from xxdeploy.runtime.inputs import InputForm

CALIBRATION_BATCH = 8
"""Images that are read and preprocessed together where a graph runs them one by one."""
EVALUATION_BATCH = 16
"""Images that go through a network together where only its outputs are of interest."""
_USUAL_PIXELS = 224 * 224


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Image files below ``root``, in the order of their POSIX names. Images are read when they are needed.

    ``labels`` is the class index of each file, or None. ``left_out`` counts the files of the folder that are no
    pictures, by their suffix. With ``crops`` each image is that part of its file; a file may then stand there several
    times. Methods that read files raise ``UsageError``
    ``image-unreadable``, which names the file.
    """

    is_table: ClassVar[bool] = False
    """Whether a sample may be something else than one picture file."""

    root: Path
    files: tuple[Path, ...] = field(repr=False)
    labels: tuple[int, ...] | None = field(default=None, repr=False)
    left_out: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    crops: tuple[Crop, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.files:
            raise UsageError(
                f"the folder {self.root} contains no images", hint="give a folder of images", code="empty-folder"
            )
        if self.labels is not None and len(self.labels) != len(self.files):
            raise ValueError(f"{len(self.labels)} labels for {len(self.files)} files")
        if self.crops is not None and len(self.crops) != len(self.files):
            raise ValueError(f"{len(self.crops)} crops for {len(self.files)} files")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence on the files that were left out, if there are any."""
        return notes_on(self.root, self.left_out)

    @property
    def names(self) -> tuple[str, ...]:
        """Names relative to ``root``, with ``/``, the same on every system. That of a crop says which part it is."""
        names = (path.relative_to(self.root).as_posix() for path in self.files)
        if self.crops is None:
            return tuple(names)
        return tuple(f"{name}@{crop}" for name, crop in zip(names, self.crops, strict=True))

    def contents(self) -> list[bytes]:
        """Return the SHA-256 of each file, 32 bytes. Reads every file."""
        return [file_digest(path) for path in self.files]

    def pictures(self) -> list[ImageLike]:
        """Return the path of each image, or the crop in its place (decoded, RGB)."""
        if self.crops is None:
            return list(self.files)
        return [crop.cut(path) for crop, path in zip(self.crops, self.files, strict=True)]

    def picture(self, index: int) -> ImageLike:
        """Return one of :meth:`pictures`."""
        return self._subset((index,)).pictures()[0]

    def cropped(self, files: Sequence[Path], crops: Sequence[Crop]) -> ImageSet:
        """Return a set of the part ``crops[i]`` of each of ``files[i]``, files of this set."""
        return ImageSet(self.root, tuple(files), crops=tuple(crops))

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the relative names and the contents, in order. Reads every file."""
        total = hashlib.sha256()
        for name, path in zip(self.names, self.files, strict=True):
            total.update(f"{len(name.encode(errors='surrogateescape'))}:".encode())
            total.update(name.encode(errors="surrogateescape"))
            total.update(file_digest(path))
        return total.hexdigest()

    def sample(self, count: int | None, seed: int = 0) -> ImageSet:
        """Choose ``count`` images (None: all) in proportion to the classes, in the order of the set.

        The classes are the labels, or without labels the folders of the files, or the files of crops. Within a class
        the order is that of SHA-256 over seed and name, so the choice depends on names and seed only, and a larger
        ``count`` extends a smaller one. ``UsageError``: ``bad-samples``: ``count`` below 1; ``too-few-images``: the set
        is smaller.
        """
        if count is None:
            return self
        if count < 1:
            raise UsageError(f"--samples {count} is less than 1", hint="use 1 or more", code="bad-samples")
        if count > len(self):
            raise UsageError(
                f"--samples {count} is more than the {len(self)} images in {self.root}",
                hint=f"use {len(self)} or fewer, or leave --samples out to use all",
                code="too-few-images",
            )
        classes: dict[int | Path, list[int]] = {}
        for index, path in enumerate(self.files):
            group = path.parent if self.crops is None else path
            classes.setdefault(group if self.labels is None else self.labels[index], []).append(index)
        names = self.names
        order: list[tuple[float, float, int]] = []
        for members in classes.values():
            members.sort(key=lambda index: _chance(seed, names[index]))
            offset = _chance(seed, f"class of {min(names[index] for index in members)}")
            # Systematic sampling: the k-th of n members is chosen at the share (k + offset) / n of the whole set.
            order += [((k + offset) / len(members), offset, index) for k, index in enumerate(members)]
        return self._subset(sorted(index for _, _, index in sorted(order)[:count]))

    def apart_from(self, used: ImageSet) -> ImageSet | None:
        """Return the images that are not in ``used``, by path or by content; None if none is left."""
        taken = {place for _, place in overlap(used, self)}
        places = self.names if self.is_table or used.is_table else self.files
        kept = [index for index, place in enumerate(places) if place not in taken]
        return self._subset(kept) if kept else None

    def _subset(self, indices: Sequence[int]) -> ImageSet:
        labels = None if self.labels is None else tuple(self.labels[index] for index in indices)
        crops = None if self.crops is None else tuple(self.crops[index] for index in indices)
        return ImageSet(self.root, tuple(self.files[index] for index in indices), labels, self.left_out, crops)

    def batches(self, preprocess: InputForm, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield preprocessed batches ``(n, h, w, c)`` float32, one at a time; the last may have fewer than ``size``.

        Those of a model that reads no picture, or several inputs, are as :mod:`xxdeploy.runtime.inputs` makes them.

        ``UsageError``: ``bad-batch-size``: below 1; those of the preprocessing, with the name of the broken file.
        """
        yield from map(preprocess.normalize, self._pixels(preprocess, size))

    def batches_for(self, runner: object, preprocess: InputForm, size: int) -> Iterator[NDArray[Any]]:
        """Yield the batches that ``runner`` reads: decoded images (n, h, w, c) uint8, or those of :meth:`batches`.

        A runner reads decoded images if it has a true attribute ``takes_pixels``. Errors as :meth:`batches`.
        """
        takes_pixels = getattr(runner, "takes_pixels", False)
        yield from map(rounded, self._pixels(preprocess, size)) if takes_pixels else self.batches(preprocess, size)

    def _pixels(self, preprocess: InputForm, size: int) -> Iterator[Pixels]:
        if size < 1:
            raise UsageError(f"the batch size {size} is less than 1", hint="use 1 or more", code="bad-batch-size")
        for start in range(0, len(self), size):
            part = range(start, min(start + size, len(self)))
            yield preprocess.pixels(self._subset(part).pictures())


def notes_on(root: Path, left_out: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """Return a sentence on files that are no pictures by their suffixes, if there are any; counts by suffix."""
    if not left_out:
        return ()
    total = sum(count for _, count in left_out)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in left_out[:6]) + (", ..." if len(left_out) > 6 else "")
    heic = any(suffix in HEIC_SUFFIXES for suffix, _ in left_out)
    rest = "; save HEIC as JPEG to use it (the package pillow-heif reads it)" if heic else ""
    files = "1 file was" if total == 1 else f"{total} files were"
    return (f"{files} left out of {root.name}, because the suffix is not that of a picture: {kinds}{rest}",)


def overlap(first: ImageSet, second: ImageSet) -> tuple[tuple[str | Path, str | Path], ...]:
    """Return pairs of files with equal bytes, one from each set, or samples with equal inputs.

    Of two folders only files of equal size are read.
    """
    if first.is_table or second.is_table:
        names = dict(zip(first.contents(), first.names, strict=True))
        return tuple(
            (names[content], name)
            for content, name in zip(second.contents(), second.names, strict=True)
            if content in names
        )
    sizes = [{_size(path) for path in images.files} for images in (first, second)]
    shared = sizes[0] & sizes[1]
    known: dict[bytes, Path] = {}
    for path in first.files:
        if _size(path) in shared:
            known.setdefault(file_digest(path), path)
    candidates = (path for path in second.files if _size(path) in shared)
    return tuple((known[digest], path) for path in candidates if (digest := file_digest(path)) in known)


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's contents, 32 bytes, read in pieces. ``UsageError`` ``image-unreadable``."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise _unreadable(path, error) from error


def model_digest(path: Path) -> bytes:
    """Return the SHA-256 of a model file, or of a folder: over the relative names and the contents of its files."""
    if not path.is_dir():
        return file_digest(path)
    total = hashlib.sha256()
    for file in sorted(part for part in path.rglob("*") if part.is_file()):
        name = file.relative_to(path).as_posix().encode(errors="surrogateescape")
        total.update(f"{len(name)}:".encode() + name + file_digest(file))
    return total.digest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"the image {path} cannot be read: {error.strerror}", hint="check its permissions", code="image-unreadable"
    )


def _chance(seed: int, name: str) -> float:
    """Return a number in 0..1 that depends on seed and name only."""
    digest = hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def batch_that_fits(most: int, area: int) -> int:
    """Return the batch size for images of ``area`` pixels: ``most``, or fewer of large images, at least 2.

    The tensors of NASNetLarge take a gigabyte for eight of its images, 331 pixels a side.
    """
    return max(2, min(most, most * _USUAL_PIXELS // area))
