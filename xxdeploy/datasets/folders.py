"""Find the images below a folder, and the class of each."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from xxdeploy.datasets.images import ImageSet
from xxdeploy.datasets.labels import Labels
from xxdeploy.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
_LAYOUT = "use one folder per class (its name or WordNet id), or a labels.csv with the columns file,label"


def open_images(root: Path, *, labels: Labels | None = None, require_labels: bool = False) -> ImageSet:
    """Open a folder of images; with ``require_labels`` each image has one of the network's classes ``labels``.

    A labeled folder has one folder per class, named after the class or its WordNet id, or a ``labels.csv`` with the
    columns ``file`` (relative to ``root``) and ``label`` (name, id or class index). Subfolders and links to folders are
    followed, once each. Hidden files, and files with a suffix outside ``SUFFIXES`` (in any case), are ignored. No image
    is read here.

    ``UsageError``: ``no-folder``, ``folder-unreadable``, ``empty-folder``; ``labels-missing`` without ``labels``;
    ``images-without-class``; ``labels-match-nothing`` and ``labels-unknown``, with examples of both kinds of names;
    ``bad-labels-csv``.
    """
    names = _find(root)
    if not require_labels:
        return ImageSet(root, tuple(root / name for name in names))
    if labels is None:
        raise UsageError(
            f"the class folders in {root} cannot be matched, since the network has no labels",
            hint="add --labels FILE with one class name per line, in the order of the outputs",
            code="labels-missing",
        )
    listed = root / "labels.csv"
    if listed.is_file():
        names, given = _read_csv(listed, names)
    else:
        loose = [name for name in names if "/" not in name]
        if loose:
            raise UsageError(
                f"{len(loose)} of {len(names)} images in {root} are outside the class folders: {_some(loose)}",
                hint=_LAYOUT,
                code="images-without-class",
            )
        given = [name.partition("/")[0] for name in names]
    return ImageSet(root, tuple(root / name for name in names), _classes(root, given, labels, csv=listed.is_file()))


def has_labels(root: Path) -> bool:
    """Return whether ``root`` is a labeled set: it has a ``labels.csv``, or images in subfolders only."""
    return (root / "labels.csv").is_file() or all("/" in name for name in _find(root))


def labels_from_folders(root: Path) -> Labels:
    """Return the names of the class folders, sorted as in Keras' ``image_dataset_from_directory``.

    ``UsageError``: as ``open_images``; ``images-without-class``: there are no class folders.
    """
    folders = sorted({name.partition("/")[0] for name in _find(root) if "/" in name})
    if not folders:
        raise UsageError(f"{root} has no class folders", hint=_LAYOUT, code="images-without-class")
    return Labels(tuple(folders))


def _find(root: Path) -> list[str]:
    """Return the POSIX names of the images below ``root``, sorted."""
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise UsageError(f"the image folder {root} {problem}", hint="give a folder of images", code="no-folder")
    names = sorted(_walk(root))
    if not names:
        raise UsageError(
            f"the folder {root} contains no images",
            hint=f"images end in {' '.join(suffix[1:] for suffix in SUFFIXES)}; hidden files are ignored",
            code="empty-folder",
        )
    return names


def _walk(root: Path) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}", hint="check its permissions", code="folder-unreadable"
        ) from error

    seen = {os.path.realpath(root)}
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        inner = Path(folder)
        fresh = []
        for subfolder in sorted(subfolders):
            target = os.path.realpath(inner / subfolder)
            if not subfolder.startswith(".") and target not in seen:  # a link may lead back up
                seen.add(target)
                fresh.append(subfolder)
        subfolders[:] = fresh
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith(".") and (inner / file).is_file():
                yield (inner / file).relative_to(root).as_posix()


def _read_csv(path: Path, images: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return files and labels of ``labels.csv``, sorted by file."""

    def bad(problem: str) -> UsageError:
        return UsageError(
            f"{path}: {problem}", hint="write a header line file,label, then one line per image", code="bad-labels-csv"
        )

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad(str(error)) from error
    if not rows:
        raise bad("it lists no images")
    if not {"file", "label"} <= set(rows[0]):
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
    return files, [pairs[name] for name in files]


def _classes(root: Path, given: Sequence[str], labels: Labels, *, csv: bool) -> tuple[int, ...]:
    """Return the class index of each name in ``given``; refuse unknown names."""
    distinct = sorted(set(given))
    indices = dict(zip(distinct, labels.indices(distinct), strict=True))
    if csv and not any(index is not None for index in indices.values()) and all(name.isdecimal() for name in distinct):
        indices = {name: int(name) if int(name) < len(labels) else None for name in distinct}
    unknown = [name for name in distinct if indices[name] is None]
    if unknown:
        nothing = len(unknown) == len(distinct)
        raise UsageError(
            f"{len(unknown)} of the {len(distinct)} classes in {root} are unknown to the network: "
            f"found {_some(unknown)}; expected {_some(labels.ids or labels.names)}",
            hint=f"{_LAYOUT}; or add --labels FILE with the names that you use",
            code="labels-match-nothing" if nothing else "labels-unknown",
        )
    return tuple(index for name in given if (index := indices[name]) is not None)


def _some(names: Sequence[str], count: int = 4) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > count else ""
    return ", ".join(map(repr, names[:count])) + more
