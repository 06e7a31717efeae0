"""The file of ``--labels``: text with a name a line, JSON, or a table of numbers and names."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xxdeploy.datasets.labels import Labels
from xxdeploy.errors import UsageError
from xxdeploy.files import read_bounded

MAX_BYTES = 4_000_000
WAYS = (
    "write one class name per line, in the order of the network's outputs; or JSON: a list of names, or the "
    "class_indices of a Keras generator"
)
_IMAGENET = Path(__file__).parent / "imagenet_classes.txt"
_WNID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"([0-9]{1,6})(?:\s*[:,]\s*|\s+)(\S.*)")
_WRAPPERS = ("class_indices", "class_names", "labels", "id2label")
"""Keys of JSON objects that hold the classes and other things, such as Teachable Machine's ``metadata.json``."""


def imagenet_labels() -> Labels:
    """Return the 1,000 classes of ILSVRC-2012 in Keras' order, sorted by WordNet id."""
    return load_labels(_IMAGENET)


def load_labels(path: Path) -> Labels:
    """Read class names from a file, in the order of the network's outputs.

    Text has one name per line. If each line begins with a WordNet id (``n01440764 tench, Tinca tinca``) or with its
    number, counted from 0 (``0 cardboard``, as Teachable Machine writes), these are split off. A byte order mark,
    blanks around a name and empty lines at the end are ignored.

    JSON is a list of names, or an object from names to indices (``class_indices`` of Keras' generators), from indices
    to names, or from indices to pairs of id and name (Keras' ``imagenet_class_index.json``).

    A ``.csv`` is a table with two columns and a header: the class index and its name, in any order of lines.

    ``UsageError``: ``no-labels-file``; ``labels-empty``; ``bad-labels``: larger than ``MAX_BYTES``, not UTF-8 text, an
    empty line among the names, numbers that contradict the order of the lines, an id or index twice or missing, or JSON
    of another form.
    """
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(path, "it is not UTF-8 text") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise _bad(path, f"it is larger than {MAX_BYTES // 1_000_000} MB") from error
        raise UsageError(
            f"the labels file {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="give a text file with one class name per line",
            code="no-labels-file",
        ) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n").rstrip()
    try:
        if path.suffix.lower() == ".json" or text.lstrip().startswith(("{", "[")):
            return _from_json(text)
        if path.suffix.lower() == ".csv" and (table := labels_from_table(text)) is not None:
            return table
        return _from_lines([line.strip() for line in text.split("\n")] if text else [])
    except ValueError as error:
        raise _bad(path, str(error)) from error


def labels_from_table(text: str) -> Labels | None:
    """Return the classes of a table with the columns index and name and a header, else None.

    The indices are 0 to n - 1, once each.
    """
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error:
        return None
    numbers = [row[0] for row in rows[1:]]
    if not numbers or any(len(row) != 2 or not row[1] for row in rows) or not all(map(is_number, numbers)):
        return None
    names = {int(number): row[1] for number, row in zip(numbers, rows[1:], strict=True)}
    return Labels(_in_order(names)) if sorted(names) == list(range(len(numbers))) else None


def _from_lines(lines: Sequence[str]) -> Labels:
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty")
    pairs = [line.split(None, 1) for line in lines]
    if pairs and all(len(pair) == 2 and _WNID.fullmatch(pair[0]) for pair in pairs):
        return Labels(tuple(pair[1] for pair in pairs), tuple(pair[0] for pair in pairs))
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    if len(lines) > 1 and len(numbered) == len(lines):
        numbers, names = [int(match[1]) for match in numbered], tuple(match[2] for match in numbered)
        in_order = list(range(len(lines)))
        if sorted(numbers) == in_order and numbers != in_order:
            line = next(index for index in in_order if numbers[index] != index)
            raise ValueError(
                f"line {line + 1} is {lines[line]!r}: the number says class {numbers[line]}, and the line class {line}"
            )
        if numbers == in_order and len(set(names)) == len(names):  # else "0 fingers", "1 fingers" are the names
            return Labels(names)
    return Labels(tuple(lines))


def _from_json(text: str) -> Labels:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(keys := dict(pairs)) != len(pairs):
            raise ValueError("a class occurs twice in it")
        return keys

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (write it with json.dump): {error}") from error
    if isinstance(value, dict):
        value = next((value[key] for key in _WRAPPERS if isinstance(value.get(key), (dict, list))), value)
    if isinstance(value, dict):
        value = _list_from_object(value)
    if not isinstance(value, list):
        raise ValueError("it holds no classes")
    if value and all(isinstance(item, list) and len(item) == 2 for item in value):
        ids, names = zip(*value, strict=True)
        return Labels(_names(names), _names(ids))
    return Labels(_names(value))


def _list_from_object(value: dict[str, Any]) -> list[Any]:
    """Order ``{"cat": 0}`` or ``{"0": "cat"}`` by the index."""
    if all(type(index) is int for index in value.values()):
        by_index: dict[int, Any] = {index: name for name, index in value.items()}
    elif all(map(is_number, value)):
        by_index = {int(index): name for index, name in value.items()}
    else:
        raise ValueError("it is an object, but neither from names to indices nor from indices to names")
    if sorted(by_index) != list(range(len(value))):
        raise ValueError(f"its indices are not 0 to {len(value) - 1}, once each")
    return list(_in_order(by_index))


def _in_order(by_index: dict[int, Any]) -> tuple[Any, ...]:
    return tuple(by_index[index] for index in sorted(by_index))


def _names(values: Sequence[object]) -> tuple[str, ...]:
    names = tuple(value.strip() for value in values if isinstance(value, str))
    if len(names) != len(values) or "" in names:
        raise ValueError("a name is empty, or is not text")
    return names


def is_number(text: str) -> bool:
    """Return whether ``text`` is an index written in digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 6


def _bad(path: Path, problem: str) -> UsageError:
    return UsageError(f"the labels file {path} cannot be used: {problem}", hint=WAYS, code="bad-labels")
