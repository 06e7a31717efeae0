"""Pictures that a program hands over, as an array, a data set or any iterable: written to a folder of files.

The folder is read as any other folder of pictures, so sampling, digests and the check for overlap hold for it, and
the memory does not grow with the number of pictures. The files are PPM and PGM: their bytes follow from the pixels.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.given import Label, Picture, Wanted, bad_label, pictures_of
from xxdeploy.datasets.labels_csv import NAME
from xxdeploy.errors import UsageError

_FIRST = 32
"""Pictures by whose values the range of all is known."""
_UNIT, _PIXELS = "0..1", "0..255"
_RANGES = "pictures are integers of 0..255, floats of 0..255, or floats of 0..1 with preprocess='0..1'"


@dataclass(frozen=True, slots=True)
class Written:
    """The pictures in ``folder``: how many of how many, their kind for people, and notes for the user."""

    folder: Path
    kept: int
    seen: int
    kind: str
    notes: tuple[str, ...]


def write_pictures(given: Any, folder: Path, wanted: Wanted, on_count: Callable[[int], None]) -> Written:
    """Write pictures to a new ``folder``, with ``labels.csv`` if they have classes.

    Parameters
    ----------
    given
        An array (n, height, width, channels) or, gray, (n, height, width); a pair of such an array and its labels; a
        ``tf.data.Dataset``, a ``keras.utils.PyDataset`` or any other iterable of pictures, of (picture, label) or of
        batches of either. A picture may also be a Pillow image or the path of a file. Channels are 1 or 3, the values
        as :data:`_RANGES` says. A label is an integer, a one-hot vector or the name of a class.
    folder
        It must not exist.
    wanted
        How the pictures are used.
    on_count
        Is called with the number of pictures so far.

    Raises
    ------
    UsageError
        ``picture-type``: no pictures by type or shape; ``picture-range``; ``picture-label``; ``endless-pictures``;
        ``empty-folder``: there is none; ``no-space``: the folder for temporary files is full.
    """
    folder.mkdir(parents=True)
    shelf = _Shelf(folder, wanted)
    scale = _Scale(wanted)
    waiting: list[tuple[Picture, Label | None]] = []
    try:
        for count, (picture, label) in enumerate(pictures_of(given, wanted), start=1):
            if scale.kind is not None or isinstance(picture, Path):
                shelf.add(scale.pixels(picture), label)
            else:
                waiting.append((picture, label))
                scale.look(picture)
                if len(waiting) == _FIRST:
                    scale.decide()
                    shelf.add_all(scale, waiting)
            on_count(count)
        if waiting:
            scale.decide()
            shelf.add_all(scale, waiting)
    except OSError as error:
        raise UsageError(
            f"the pictures of {wanted.name} cannot be written to {folder.parent}: {error.strerror}",
            hint="free some space there, or name another folder for temporary files in TMPDIR",
            code="no-space",
        ) from error
    if not shelf.seen:
        raise UsageError(
            f"{wanted.name} has no pictures", hint="give at least one; an iterator that was read is empty",
            code="empty-folder",
        )  # fmt: skip
    scale.check_end()
    shelf.write_labels()
    return Written(folder, shelf.kept, shelf.seen, scale.told(), (*scale.notes(), *shelf.notes()))


class _Shelf:
    """The files of some pictures; of more than ``most`` the ones whose number has the smallest hash."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self.seen = 0
        self._folder, self._wanted = folder, wanted
        self._labels: dict[str, Label | None] = {}
        self._drawn: list[tuple[int, str]] = []  # a heap with the largest hash first

    @property
    def kept(self) -> int:
        return len(self._labels)

    def add_all(self, scale: _Scale, waiting: list[tuple[Picture, Label | None]]) -> None:
        for picture, label in waiting:
            self.add(scale.pixels(picture), label)
        waiting.clear()

    def add(self, picture: Picture, label: Label | None) -> None:
        number, wanted = self.seen, self._wanted
        self.seen += 1
        if label is None and wanted.labeled:
            raise bad_label(wanted, f"picture {number} has no label")
        stem = f"{number:06d}"
        chance = int.from_bytes(hashlib.sha256(f"{wanted.seed}:{stem}".encode()).digest()[:8], "big")
        if self.kept == wanted.most and chance >= -self._drawn[0][0]:
            return
        name = self._write(stem, picture)
        self._labels[name] = label
        heapq.heappush(self._drawn, (-chance, name))
        if wanted.most is not None and self.kept > wanted.most:
            _, last = heapq.heappop(self._drawn)
            del self._labels[last]
            (self._folder / last).unlink()

    def _write(self, stem: str, picture: Picture) -> str:
        if isinstance(picture, Path):
            name, content = f"{stem}{picture.suffix.lower()}", _read(picture, self._wanted)
        else:
            height, width, channels = picture.shape
            name = f"{stem}.{'pgm' if channels == 1 else 'ppm'}"
            head = f"P{5 if channels == 1 else 6}\n{width} {height}\n255\n".encode()
            content = head + np.ascontiguousarray(picture, np.uint8).tobytes()
        (self._folder / name).write_bytes(content)
        return name

    def write_labels(self) -> None:
        """Write ``labels.csv`` if the pictures have labels."""
        labels = set(map(type, self._labels.values()))
        if labels == {type(None)}:
            return
        if len(labels) > 1:
            raise bad_label(self._wanted, "some labels are numbers, some are names, or some are absent")
        text = io.StringIO(newline="")
        table = csv.writer(text)
        table.writerow(("file", "index" if labels == {int} else "label"))
        table.writerows(self._labels.items())
        (self._folder / NAME).write_text(text.getvalue(), encoding="utf-8", newline="")

    def notes(self) -> tuple[str, ...]:
        if self.kept == self.seen:
            return ()
        return (f"{self._wanted.name}: {self.kept} of {self.seen} pictures were drawn (seed {self._wanted.seed})",)


class _Scale:
    """Which range the values of some pictures have, and the pictures in integers of 0..255."""

    def __init__(self, wanted: Wanted) -> None:
        self.kind: str | None = None
        self._wanted = wanted
        self._dtype, self._shape = "", ()
        self._low, self._high = np.inf, -np.inf
        self._sizes: set[tuple[int, ...]] = set()
        self._moved = 0.0

    def look(self, picture: Picture) -> None:
        """Note the values of a picture."""
        assert isinstance(picture, np.ndarray)
        self._dtype, self._shape = str(picture.dtype), picture.shape
        self._sizes.add(picture.shape[:2])
        if picture.dtype.kind not in "uifb":
            raise self._bad(f"values of type {picture.dtype}")
        if picture.dtype.kind == "f" and not np.isfinite(picture).all():
            raise self._bad("values that are no numbers (NaN or infinity)")
        self._low = min(self._low, float(picture.min()))
        self._high = max(self._high, float(picture.max()))

    def decide(self) -> None:
        """Choose the range by the pictures so far."""
        said = f"values of {self._low:.4g} to {self._high:.4g}"
        if self._low < 0:
            raise self._bad(f"{said}, which are scaled already", hint="give the pictures before preprocess_input")
        if self._high > 255:
            raise self._bad(said)
        if np.dtype(self._dtype).kind != "f" or self._high > 1:
            self.kind = _PIXELS
        elif self._wanted.takes_unit:
            self.kind = _UNIT
        else:
            raise self._bad(
                f"{said}, and the model does not take pixels of 0..1",
                hint="multiply them by 255 if they are pictures divided by 255; if the model was trained on them as "
                "they are, add preprocess='0..1'",
            )

    def pixels(self, picture: Picture) -> Picture:
        """Return a picture in integers of 0..255, (height, width, channels) uint8; a file as it is."""
        if isinstance(picture, Path):
            return picture
        self.look(picture)
        if self._low < 0 or self._high > (1 if self.kind == _UNIT else 255):
            raise self._bad(f"values of {self._low:.4g} to {self._high:.4g}, and the first ones are of {self.kind}")
        if picture.dtype.kind != "f":
            return picture.astype(np.uint8)
        values = picture * np.float32(255) if self.kind == _UNIT else picture
        whole = np.rint(values)
        self._moved = max(self._moved, float(np.abs(values - whole).max()))
        integers: NDArray[np.uint8] = whole.astype(np.uint8)
        return integers

    def check_end(self) -> None:
        """Refuse integers that are all 0 or 1."""
        if self.kind == _PIXELS and self._high <= 1:
            raise self._bad("only the values 0 and 1", hint="multiply them by 255, if 1 is white")

    def told(self) -> str:
        """Return the kind of the pictures for people."""
        size = " x ".join(map(str, self._shape)) if self._shape else "files"
        return f"{size} {self._dtype}".rstrip()

    def notes(self) -> tuple[str, ...]:
        """Return notes on values that were rounded, and on pictures that were resized before."""
        told = []
        if self._moved > 1e-2:
            told.append(f"{self._wanted.name}: floats were rounded to whole numbers of 0..255, as pictures have them")
        if self._wanted.labeled and len(self._sizes) == 1:
            height, width = next(iter(self._sizes))
            told.append(
                f"{self._wanted.name}: all pictures are {height} x {width}; if the model takes that size, they cannot "
                "show that --resize and --resample are those of the training"
            )
        return tuple(told)

    def _bad(self, problem: str, hint: str = "") -> UsageError:
        return UsageError(
            f"{self._wanted.name} has {problem}", hint="; ".join(filter(None, (hint, _RANGES))), code="picture-range"
        )


def _read(path: Path, wanted: Wanted) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the image {path} of {wanted.name} cannot be read: {error.strerror}",
            hint="check the path and its permissions",
            code="image-unreadable",
        ) from error
