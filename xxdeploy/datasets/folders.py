"""Find the images below a folder, and the class of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from xxdeploy.datasets.class_order import ordered
from xxdeploy.datasets.images import ImageSet, notes_on
from xxdeploy.datasets.labels import Labels, Match
from xxdeploy.datasets.labels_csv import NAME, read_listing
from xxdeploy.datasets.labels_file import is_number
from xxdeploy.datasets.table import LABEL, RawTable, expected_columns, is_table, open_table, read_table
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.picture import SUFFIXES
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import InputForm

_LAYOUT = "use one folder per class (its name or WordNet id), or a labels.csv with the columns file,label"


def open_images(
    root: Path, *, labels: Labels | None = None, require_labels: bool = False, class_order: str | None = None
) -> ImageSet:
    """Open a folder of images; with ``require_labels`` each image has one of the network's classes ``labels``.

    A labeled folder has one folder per class, named after the class or its WordNet id, or a ``labels.csv`` with the
    columns ``file`` (relative to ``root``) and ``label`` (name, id or class index) or ``index`` (class index only).
    Subfolders and links to folders are followed, once each. Hidden files are ignored. Files with a suffix outside
    ``picture.SUFFIXES`` (in any case) are counted in ``left_out``. No image is read here.

    Folders that are numbers, where the classes have names: ``class_order`` ``numeric`` takes the number as the index,
    ``text`` takes the place among the sorted folders. None takes them if both agree.

    ``UsageError``: ``no-folder``, ``folder-unreadable``, ``empty-folder``; ``labels-missing`` without ``labels``;
    ``images-without-class``; ``labels-match-nothing``, ``labels-unknown`` and ``labels-ambiguous``, with examples of
    the names; ``bad-labels-csv``.
    """
    names, left_out = _find(root)
    if not require_labels:
        return ImageSet(root, tuple(root / name for name in names), left_out=left_out)
    if labels is None:
        raise _no_labels(f"the class folders in {root}")
    listing, by_number = read_listing(root, names), class_order
    if listing is not None and listing.files:
        names, given = list(listing.files), list(listing.given)
        if listing.has_indices:
            return ImageSet(root, tuple(root / name for name in names), listing.indices(root, len(labels)), left_out)
        by_number = "numeric"  # the labels of a list may be indices
    else:
        given = _class_folders(root, names)
    classes = _classes(root, given, labels, by_number)
    return ImageSet(root, tuple(root / name for name in names), classes, left_out)


def open_samples(
    root: Path,
    form: InputForm,
    *,
    labels: Labels | None = None,
    require_labels: bool = False,
    class_order: str | None = None,
) -> ImageSet:
    """Open the samples of a model that reads ``form``: a table, or for one picture a folder as :func:`open_images`.

    ``UsageError``: those of ``open_images``, ``read_table`` and ``open_table``; ``table-needed``: a folder for a model
    that reads something else than one picture.
    """
    if is_table(root):
        raw = read_table(root)
        if not require_labels:
            return open_table(raw, form)
        given = _label_cells(raw, form)
        if labels is None:
            raise _no_labels(f"the labels in {root}")
        return open_table(raw, form, _classes(root, given, labels, "numeric"))
    if not isinstance(form, Preprocess):
        raise UsageError(
            f"{root} is no table, and the model reads more than one picture, or none",
            hint=f"give a CSV with the columns {expected_columns(form)}: file names, or numbers",
            code="table-needed",
        )
    return open_images(root, labels=labels, require_labels=require_labels, class_order=class_order)


def _no_labels(subject: str) -> UsageError:
    return UsageError(
        f"{subject} cannot be matched, since the network has no labels",
        hint="add --labels FILE with one class name per line, in the order of the outputs",
        code="labels-missing",
    )


def has_labels(root: Path) -> bool:
    """Return whether ``root`` is a labeled set: it has a list of labels, or images in subfolders only."""
    if is_table(root):
        return LABEL in read_table(root).columns
    names, _ = _find(root)
    listing = read_listing(root, names)
    return (listing is not None and bool(listing.files)) or all("/" in name for name in names)


def infer_labels(root: Path, classes: int, order: str | None = None) -> tuple[Labels | None, tuple[str, ...]]:
    """Return the names of a network's ``classes`` by a labeled set without any other source, and notes for the user.

    They are the names of the class folders in ``order`` (``text`` or ``numeric``, see ``class_orders``), the table of
    classes in ``labels.csv``, or its labels. None if it lists labels that leave the order open. Their number is not
    checked.

    ``UsageError``: as ``open_images``; ``class-order``.
    """
    if is_table(root):
        raw = read_table(root)
        given = sorted(set(_label_cells(raw, None)))
        if all(map(is_number, given)) and max(map(int, given)) < classes:
            by_text = order == "text" and len(given) == classes
            return Labels(tuple(given) if by_text else tuple(map(str, range(classes)))), ()
        return _labels_by_name(given, classes, order, root.name)
    names, _ = _find(root)
    listing = read_listing(root, names)
    if listing is None:
        return _labels_from_folders(root, _class_folders(root, names), classes, order)
    if listing.classes is not None:
        return listing.classes, ()
    if listing.has_indices:
        listing.indices(root, classes)
        return Labels(tuple(map(str, range(classes)))), ()
    pairs = set(zip((name.partition("/")[0] for name in listing.files), listing.given, strict=True))
    folders, given = sorted({folder for folder, _ in pairs}), sorted({label for _, label in pairs})
    numbers = {name: int(name) for name in given if is_number(name)}
    in_folders = all("/" in name for name in names)
    if in_folders and all(match.index is not None for match in Labels(tuple(folders)).matches(given)):
        return _labels_from_folders(root, [name.partition("/")[0] for name in names], classes, order)
    if len(numbers) == len(given) and max(numbers.values()) < classes:
        if order == "text" and len(given) == classes:
            return Labels(tuple(given)), ()
        by_index = {numbers[label]: folder for folder, label in pairs}
        one_each = in_folders and len(pairs) == len(folders) == len(by_index) and not any(map(is_number, folders))
        return Labels(tuple(by_index[i] if one_each and i in by_index else str(i) for i in range(classes))), ()
    return _labels_by_name(given, classes, order, f"{root.name}/{NAME}")


def _labels_by_name(
    given: Sequence[str], classes: int, order: str | None, where: str
) -> tuple[Labels | None, tuple[str, ...]]:
    if len(given) != classes:
        return None, ()
    inferred, note = ordered(given, order, where)  # as Keras' flow_from_dataframe sorts them
    return Labels(inferred), (note,) if note else ()


def _label_cells(raw: RawTable, form: InputForm | None) -> tuple[str, ...]:
    """Return the label of each sample; ``UsageError`` ``table-columns``, ``bad-table``."""
    if LABEL not in raw.columns:
        columns = LABEL if form is None else expected_columns(form)
        raise UsageError(
            f"{raw.path} has no column {LABEL}: it has {', '.join(raw.columns)}",
            hint=f"the columns are {columns}",
            code="table-columns",
        )
    cells = raw.column(LABEL)
    if "" in cells:
        line = raw.rows[cells.index("")][0]
        raise UsageError(
            f"{raw.path}: line {line} has no label", hint="write the class of each sample", code="bad-table"
        )
    return cells


def _labels_from_folders(
    root: Path, given: Sequence[str], classes: int, order: str | None
) -> tuple[Labels, tuple[str, ...]]:
    """Return the class folders that have images; with the empty ones if these complete the network's ``classes``."""
    folders = sorted(set(given))
    if len(folders) < classes:
        every = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if len(every) == classes:  # Keras' loaders count them, too
            folders = every
        elif order == "numeric" and all(is_number(name) and int(name) < classes for name in folders):
            return Labels(tuple(map(str, range(classes)))), ()
    inferred, note = ordered(folders, order, root.name)
    return Labels(inferred), (note,) if note else ()


def _class_folders(root: Path, names: Sequence[str]) -> list[str]:
    """Return the class folder of each image; ``UsageError`` ``images-without-class``."""
    loose = [name for name in names if "/" not in name]
    if loose:
        raise UsageError(
            f"{len(loose)} of {len(names)} images in {root} are outside the class folders: {_some(loose)}",
            hint=_LAYOUT,
            code="images-without-class",
        )
    return [name.partition("/")[0] for name in names]


def _find(root: Path) -> tuple[list[str], tuple[tuple[str, int], ...]]:
    """Return the POSIX names of the images below ``root``, sorted, and how many other files have each suffix."""
    if not root.is_dir():
        problem = "is a file, not a folder" if root.exists() else "does not exist"
        raise UsageError(f"the image folder {root} {problem}", hint="give a folder of images", code="no-folder")
    others: Counter[str] = Counter()
    names = sorted(_walk(root, others))
    left_out = tuple(others.most_common())
    if not names:
        notes = notes_on(root, left_out)
        raise UsageError(
            f"the folder {root} contains no images{f' ({notes[0]})' if notes else ''}",
            hint=f"images end in {' '.join(suffix[1:] for suffix in SUFFIXES)}; hidden files are ignored",
            code="empty-folder",
        )
    return names, left_out


def _walk(root: Path, others: Counter[str]) -> Iterator[str]:
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
            path = inner / file
            if file.startswith(".") or not path.is_file():
                continue
            if path.suffix.lower() in SUFFIXES:
                yield path.relative_to(root).as_posix()
            elif path != root / NAME:
                others[path.suffix.lower() or "without a suffix"] += 1


def _classes(root: Path, given: Sequence[str], labels: Labels, by_number: str | None) -> tuple[int, ...]:
    """Return the class index of each name in ``given``; refuse unknown names, and names that mean several classes."""
    distinct = sorted(set(given))
    matches = dict(zip(distinct, labels.matches(distinct), strict=True))
    if not any(match.classes for match in matches.values()) and all(map(is_number, distinct)):
        matches = _by_number(distinct, len(labels), by_number)
    _refuse_doubtful(root, labels, matches)
    unknown = [name for name in distinct if not matches[name].classes]
    if unknown:
        nothing = len(unknown) == len(distinct)
        numbered = " (export: --class-order numeric if folder N holds class N)" if all(map(is_number, distinct)) else ""
        raise UsageError(
            f"{len(unknown)} of the {len(distinct)} classes in {root} are unknown to the network: "
            f"found {_some(unknown)}; expected {_some(labels.ids or labels.names)}",
            hint=f"{_LAYOUT}; or add --labels FILE with the names that you use{numbered}",
            code="labels-match-nothing" if nothing else "labels-unknown",
        )
    return tuple(matches[name].classes[0] for name in given)


def _by_number(distinct: Sequence[str], classes: int, order: str | None) -> dict[str, Match]:
    """Match names that are numbers with classes that have other names: by the number, or by the place as text."""
    places = dict(zip(distinct, range(classes), strict=False)) if len(distinct) == classes else {}
    numbers = {name: int(name) for name in distinct if int(name) < classes}
    indices = {"numeric": numbers, "text": places, None: numbers if numbers == places else {}}[order]
    return {name: Match((indices[name],) if name in indices else ()) for name in distinct}


def _refuse_doubtful(root: Path, labels: Labels, matches: Mapping[str, Match]) -> None:
    """Raise ``UsageError`` ``labels-ambiguous`` for a name of several classes, or two spellings of one class."""
    spellings: dict[int, list[str]] = {}
    for name, match in matches.items():
        if len(match.classes) > 1:
            meant = ", ".join(f"{index} {labels.names[index]!r}" for index in match.classes[:4])
            raise UsageError(
                f"the class {name!r} in {root} may be any of the classes {meant}",
                hint="name it exactly as the class is named" + (", or by its id" if labels.ids else ""),
                code="labels-ambiguous",
            )
        if match.classes:
            spellings.setdefault(match.classes[0], []).append(name)
    for index, names in spellings.items():
        if len(names) > 1 and any(matches[name].is_folded for name in names):
            raise UsageError(
                f"{_some(names)} in {root} are two classes by their names, and all fit {labels.names[index]!r} only",
                hint=f"if they are one class, name all of them {labels.names[index]!r}; if not, add --labels FILE",
                code="labels-ambiguous",
            )


def _some(names: Sequence[str], count: int = 4) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > count else ""
    return ", ".join(map(repr, names[:count])) + more
