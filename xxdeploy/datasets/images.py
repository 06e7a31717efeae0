"""A set of image files: what it holds, what part of it to use, and its pictures in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError

if TYPE_CHECKING:
    from xxdeploy.runtime.image.preprocess import Preprocess


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Image files in a fixed order, labeled or not. Holds names; pictures are read when they are needed.

    Attributes
    ----------
    root : Path
        The folder that the names are relative to.
    files : tuple[Path, ...]
        Paths below ``root``, in the order of their POSIX names.
    labels : tuple[int, ...] | None
        Class index of each file.
    """

    root: Path
    files: tuple[Path, ...] = field(repr=False)
    labels: tuple[int, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.files:
            raise UsageError(f"there are no images in {self.root}", hint="give a folder of images", code="empty-folder")
        if self.labels is not None and len(self.labels) != len(self.files):
            raise ValueError(f"{len(self.labels)} labels for {len(self.files)} files")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Names relative to ``root``, with ``/``: the same on every system."""
        return tuple(path.relative_to(self.root).as_posix() for path in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the relative names and the contents, in order. Reads every file.

        Raises
        ------
        UsageError
            ``image-unreadable``, naming the file.
        """
        total = hashlib.sha256()
        for name, path in zip(self.names, self.files, strict=True):
            total.update(f"{len(name.encode(errors='surrogateescape'))}:".encode())
            total.update(name.encode(errors="surrogateescape"))
            total.update(file_digest(path))
        return total.hexdigest()

    def sample(self, count: int | None, seed: int = 0) -> ImageSet:
        """Choose ``count`` images, spread over the classes in proportion, in the order of the set.

        The classes are the labels, or without labels the folders that the files lie in. Within a class the order is
        that of SHA-256 over seed and name, so a choice depends on nothing but names and seed, on no library's
        generator, and a larger ``count`` extends a smaller one.

        Parameters
        ----------
        count : int | None
            How many; None takes all.
        seed : int
            Another seed, another choice.

        Raises
        ------
        UsageError
            ``bad-samples``: ``count`` below 1. ``too-few-images``: the set is smaller.
        """
        if count is None:
            return self
        if count < 1:
            raise UsageError(f"{count} images cannot be chosen", hint="--samples 1 or more", code="bad-samples")
        if count > len(self):
            raise UsageError(
                f"{count} images are asked for, but {self.root} has {len(self)}",
                hint=f"--samples {len(self)} or fewer, or leave --samples out to use them all",
                code="too-few-images",
            )
        classes: dict[int | Path, list[int]] = {}
        for index, path in enumerate(self.files):
            classes.setdefault(path.parent if self.labels is None else self.labels[index], []).append(index)
        names = self.names
        order: list[tuple[float, float, int]] = []
        for members in classes.values():
            members.sort(key=lambda index: _chance(seed, names[index]))
            offset = _chance(seed, f"class of {min(names[index] for index in members)}")
            # Systematic sampling: the k-th of n members is due at the share (k + offset) / n of the whole set.
            order += [((k + offset) / len(members), offset, index) for k, index in enumerate(members)]
        chosen = sorted(index for _, _, index in sorted(order)[:count])
        return ImageSet(
            self.root,
            tuple(self.files[index] for index in chosen),
            None if self.labels is None else tuple(self.labels[index] for index in chosen),
        )

    def apart_from(self, used: ImageSet) -> ImageSet | None:
        """Return the images that are not in ``used``, neither by path nor by content; None if none is left."""
        taken = {path for _, path in overlap(used, self)}
        kept = [index for index, path in enumerate(self.files) if path not in taken]
        if not kept:
            return None
        labels = None if self.labels is None else tuple(self.labels[index] for index in kept)
        return ImageSet(self.root, tuple(self.files[index] for index in kept), labels)

    def batches(self, preprocess: Preprocess, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield preprocessed batches ``(n, h, w, c)`` float32, ``n`` = ``size`` but for the last; one in memory.

        Raises
        ------
        UsageError
            ``bad-batch-size``: below 1. Those of the preprocessing, naming the broken file.
        """
        if size < 1:
            raise UsageError(f"a batch of {size} images holds nothing", hint="1 or more", code="bad-batch-size")
        for start in range(0, len(self), size):
            yield preprocess.batch(self.files[start : start + size])


def overlap(first: ImageSet, second: ImageSet) -> tuple[tuple[Path, Path], ...]:
    """Return the pairs of files, one of each set, with the same bytes. Only files of equal size are read.

    Raises
    ------
    UsageError
        ``image-unreadable``, naming the file.
    """
    sizes = [{_size(path) for path in images.files} for images in (first, second)]
    shared = sizes[0] & sizes[1]
    known: dict[bytes, Path] = {}
    for path in first.files:
        if _size(path) in shared:
            known.setdefault(file_digest(path), path)
    candidates = (path for path in second.files if _size(path) in shared)
    return tuple((known[digest], path) for path in candidates if (digest := file_digest(path)) in known)


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's contents, 32 bytes, read in pieces.

    Raises
    ------
    UsageError
        ``image-unreadable``.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} cannot be read: {error.strerror}", hint="look at its permissions", code="image-unreadable"
    )


def _chance(seed: int, name: str) -> float:
    """Return a number in 0..1 that depends on seed and name only, the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
