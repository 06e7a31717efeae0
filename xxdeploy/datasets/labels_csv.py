"""``labels.csv`` in a folder of images: the class of each file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xxdeploy.datasets.labels import Labels
from xxdeploy.datasets.labels_file import is_number, labels_from_table
from xxdeploy.errors import UsageError

NAME = "labels.csv"


@dataclass(frozen=True, slots=True)
class Listing:
    """What ``labels.csv`` says: files (POSIX names, sorted) and the label of each, or a table of the classes' names.

    One of ``files`` and ``classes`` is there. A table is what some data sets bring next to their class folders.
    ``has_indices``: the labels are indices of classes (the column ``index``), never names.
    """

    files: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    classes: Labels | None = None
    has_indices: bool = False

    def indices(self, root: Path, classes: int) -> tuple[int, ...]:
        """Return the index of each file's class, of so many ``classes``. ``UsageError`` ``bad-labels-csv``."""
        wrong = next((label for label in self.given if not is_number(label) or int(label) >= classes), None)
        if wrong is not None:
            raise UsageError(
                f"{root.name}: {wrong} is not the index of one of the {classes} classes",
                hint=f"the classes have the indices 0 to {classes - 1}, in the order of the network's outputs",
                code="bad-labels-csv",
            )
        return tuple(map(int, self.given))


def read_listing(root: Path, images: Sequence[str]) -> Listing | None:
    """Read the ``labels.csv`` of ``root``, whose images have the POSIX names ``images``; None if there is none.

    ``UsageError`` ``bad-labels-csv``.
    """
    path = root / NAME
    if not path.is_file():
        return None

    def bad(problem: str) -> UsageError:
        return UsageError(
            f"{path}: {problem}", hint="write a header line file,label, then one line per image", code="bad-labels-csv"
        )

    column = "label"

    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad(str(error)) from error
    if not rows:
        raise bad("it lists no images")
    if not {"file", "label"} <= set(rows[0]) and {"file", "index"} <= set(rows[0]):
        column = "index"
    elif not {"file", "label"} <= set(rows[0]):
        if (classes := labels_from_table(text)) is not None:
            return Listing(classes=classes)
        raise bad(f"its columns are {', '.join(map(str, rows[0]))}")
    known = set(images)
    pairs: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        if not row["file"] or not row[column]:
            raise bad(f"line {line} has no file or no {column}")
        name = PurePosixPath(row["file"].strip().replace("\\", "/")).as_posix()
        if name not in known:
            raise bad(f"line {line}: {name} is not an image in {path.parent}")
        if name in pairs:
            raise bad(f"line {line}: {name} is listed twice")
        pairs[name] = row[column].strip()
    files = sorted(pairs)
    given = tuple(pairs[name] for name in files)
    return Listing(tuple(files), given, has_indices=column == "index")
