"""``labels.csv`` in a folder of images: the class of each file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xxdeploy.datasets.labels import Labels
from xxdeploy.datasets.labels_file import labels_from_table
from xxdeploy.errors import UsageError

NAME = "labels.csv"


@dataclass(frozen=True, slots=True)
class Listing:
    """What ``labels.csv`` says: files (POSIX names, sorted) and the label of each, or a table of the classes' names.

    One of ``files`` and ``classes`` is there. A table is what some data sets bring next to their class folders.
    """

    files: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    classes: Labels | None = None


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

    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad(str(error)) from error
    if not rows:
        raise bad("it lists no images")
    if not {"file", "label"} <= set(rows[0]):
        if (classes := labels_from_table(text)) is not None:
            return Listing(classes=classes)
        raise bad(f"its columns are {', '.join(map(str, rows[0]))}")
    known = set(images)
    pairs: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        if not row["file"] or not row["label"]:
            raise bad(f"line {line} has no file or no label")
        name = PurePosixPath(row["file"].strip().replace("\\", "/")).as_posix()
        if name not in known:
            raise bad(f"line {line}: {name} is not an image in {path.parent}")
        if name in pairs:
            raise bad(f"line {line}: {name} is listed twice")
        pairs[name] = row["label"].strip()
    files = sorted(pairs)
    return Listing(tuple(files), tuple(pairs[name] for name in files))
