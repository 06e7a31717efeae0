"""What a program hands over as pictures, an array, a data set or any iterable, as single pictures with their labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.errors import UsageError

MOST_UNSIZED = 50_000
"""Most pictures of an iterable without a length: one that never ends is not told from a long one otherwise."""
_SLICE = 64
"""Rows of an array that are read together."""

Label = int | str
Picture = NDArray[Any] | Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of some pictures.

    ``name`` is the argument that they were given for, in messages. ``labeled``: each needs a class.
    ``has_classes``: if not, what comes with a picture (a clean picture, numbers) is left out. ``takes_unit``: floats of
    0..1 are pictures, since the model takes pixels of 0..1. Of more than ``most`` pictures so many are drawn
    by ``seed``; None keeps all. ``classes`` is the number of the model's classes, the length of a one-hot vector; None
    where it is not known.
    """

    name: str
    labeled: bool = False
    has_classes: bool = True
    takes_unit: bool = False
    most: int | None = None
    seed: int = 0
    classes: int | None = None


def pictures_of(given: Any, wanted: Wanted) -> Iterator[tuple[Picture, Label | None]]:
    """Yield each picture, (height, width, 1 or 3) or the path of a file, and its class: an index, a name, or None.

    ``given`` as for :func:`xxdeploy.datasets.in_memory.write_pictures`. ``UsageError``: ``picture-type``,
    ``picture-label``, ``endless-pictures``.
    """
    parts, sized = _parts(given, wanted)
    count = 0
    for part in parts:
        for picture, label in _each(part, wanted):
            count += 1
            if count > MOST_UNSIZED and not sized:
                raise _endless(wanted, f"has more than {MOST_UNSIZED:,} pictures, or never ends")
            yield picture, label


def _endless(wanted: Wanted, problem: str) -> UsageError:
    return UsageError(
        f"{wanted.name} {problem}",
        hint="give a part of it: dataset.take(100) of a tf.data.Dataset, itertools.islice(iterable, 1000) of others; "
        "or an object with a length",
        code="endless-pictures",
    )


def _parts(given: Any, wanted: Wanted) -> tuple[Iterable[Any], bool]:
    """Return the batches or pictures of what was given, each with its labels, and whether their number is known."""
    if not wanted.has_classes and isinstance(given, tuple) and len(given) == 2 and _rank(given[0]) in (3, 4):
        given = given[0]
    pictures, labels = given if _is_pair(given) else (given, None)
    if (rank := _rank(pictures)) is not None:
        if rank not in (3, 4) or (rank == 3 and pictures.shape[-1] in (1, 3, 4)):
            raise _bad_type(wanted, f"an array of shape {tuple(pictures.shape)}", "put one picture in a list")
        if labels is not None and len(pictures) != len(labels):
            raise bad_label(wanted, f"there are {len(pictures)} pictures and {len(labels)} labels")
        return _slices(pictures, labels), True
    if hasattr(given, "as_numpy_iterator"):
        if int(given.cardinality()) == -1:
            raise _endless(wanted, "never ends (it repeats)")
        return given.as_numpy_iterator(), int(given.cardinality()) >= 0
    has_items = hasattr(given, "__getitem__")
    if isinstance(given, (str, bytes, Mapping)) or not (has_items or isinstance(given, Iterable)):
        raise _bad_type(wanted, f"a {type(given).__name__}")
    if hasattr(given, "__len__") and has_items:
        return (given[index] for index in range(len(given))), True
    return iter(given), hasattr(given, "__len__")


def _is_pair(given: Any) -> bool:
    """Tell whether an array of pictures and its labels were given, not two pictures or batches."""
    if not isinstance(given, (tuple, list)) or len(given) != 2 or _rank(given[0]) not in (3, 4):
        return False
    return _rank(given[1]) in (1, 2) or isinstance(given[1], (tuple, list))


def _slices(pictures: Any, labels: Any = None) -> Iterator[Any]:
    for start in range(0, len(pictures), _SLICE):
        part = np.asarray(pictures[start : start + _SLICE])
        part = part[..., np.newaxis] if part.ndim == 3 else part
        yield part if labels is None else (part, labels[start : start + _SLICE])


def _rank(value: Any) -> int | None:
    """Return the number of axes of an array of any library, None for anything else."""
    shape = getattr(value, "shape", None)
    return len(shape) if shape is not None and hasattr(value, "dtype") else None


def _each(part: Any, wanted: Wanted) -> Iterator[tuple[Picture, Label | None]]:
    """Yield the pictures of a batch, or the one picture, with their labels."""
    pictures, labels = part, None
    if isinstance(part, (tuple, list)) and 2 <= len(part) <= 3:
        pictures, labels = part[0], part[1] if wanted.has_classes else None
    if isinstance(pictures, (str, os.PathLike)):
        yield Path(pictures), _label(labels, wanted)
        return
    if isinstance(pictures, Image.Image):
        pictures = np.asarray(pictures if pictures.mode in ("L", "RGB") else pictures.convert("RGB"))
    if _rank(pictures) is None:
        raise _bad_type(wanted, f"a {type(pictures).__name__} for a picture")
    array = np.asarray(pictures)
    array = array[..., np.newaxis] if array.ndim == 2 else array
    shape = array.shape
    if array.ndim not in (3, 4) or shape[-1] not in (1, 3) or 0 in shape[-3:]:
        first = array.ndim in (3, 4) and shape[-3] in (1, 3)
        advice = "move the channels to the end: np.moveaxis(x, -3, -1)" if first else ""
        advice = "leave the alpha channel out: x[..., :3]" if shape[-1:] == (4,) else advice
        raise _bad_type(wanted, f"pictures of shape {shape}", advice)
    if array.ndim == 3:
        yield array, _label(labels, wanted)
        return
    known = [None] * len(array) if labels is None else _labels(labels, len(array), wanted)
    yield from zip(array, known, strict=True)


def _labels(given: Any, count: int, wanted: Wanted) -> list[Label | None]:
    values = np.asarray(given)
    if values.ndim not in (1, 2) or len(values) != count:
        raise bad_label(wanted, f"there are labels of shape {values.shape} for {count} pictures")
    return [_label(value, wanted) for value in values]


def _label(given: Any, wanted: Wanted) -> Label | None:
    """Return a class: its index, or its name."""
    if given is None:
        return None
    values = np.asarray(given).reshape(-1)
    if values.dtype.kind in "SUO" and len(values) == 1:
        name = values[0].decode(errors="replace") if isinstance(values[0], bytes) else str(values[0])
        if not name.strip():
            raise bad_label(wanted, "a label is an empty text")
        return name
    if values.dtype.kind not in "uifb" or not len(values):
        raise bad_label(wanted, f"{str(given)[:60]!r} is no label")
    if len(values) > 1:
        if np.count_nonzero(values) != 1 or values.max() != 1:
            raise bad_label(wanted, f"the vector {values[:8].tolist()} is not one-hot")
        if wanted.classes is not None and len(values) != wanted.classes:
            raise bad_label(wanted, f"one-hot vectors of {len(values)} classes, and the model has {wanted.classes}")
        return int(values.argmax())
    if not np.isfinite(values[0]) or values[0] != int(values[0]) or values[0] < 0:
        raise bad_label(wanted, f"{values[0]} is no index of a class")
    return int(values[0])


def bad_label(wanted: Wanted, problem: str) -> UsageError:
    """Return ``UsageError`` ``picture-label``."""
    return UsageError(
        f"{wanted.name}: {problem}",
        hint="give (pictures, labels): the label of a picture is the index of its class, a one-hot vector or its name",
        code="picture-label",
    )


def _bad_type(wanted: Wanted, problem: str, advice: str = "") -> UsageError:
    usual = (
        "give a folder, an array (n, height, width, 1 or 3), a tf.data.Dataset, or an iterable of pictures or "
        "(picture, label)"
    )
    return UsageError(f"{wanted.name} is {problem}", hint="; ".join(filter(None, (advice, usual))), code="picture-type")
