"""A table of samples: a CSV with one column for each input of a model, and a column ``label``."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets.images import ImageSet, file_digest
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput, InputForm, SeveralInputs, parts_of, with_spans

LABEL = "label"
SUFFIX = ".csv"
ARRAY_SUFFIX = ".npy"
MAX_BYTES = 1 << 28
MAX_ROWS = 1_000_000
MAX_NUMBERS = 1 << 27
"""Numbers in the cells of a whole table: half a gigabyte as float32."""
_SINGLE = ("file", "image")
"""The names of the column of a model of one picture: that of ``labels.csv``, and that of the input."""
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?|nan|inf|infinity)", re.IGNORECASE | re.ASCII)

Cell: TypeAlias = Path | NDArray[np.float32]
"""A picture or an ``.npy`` file, or the numbers that stand in the table."""


@dataclass(frozen=True, slots=True, eq=False)
class Table(ImageSet):
    """The samples of a table, in its order. Pictures and ``.npy`` files are read when they are needed.

    ``root`` is the CSV; ``lines`` has the number of the line of each sample, ``cells`` its inputs in the order of
    ``form``. ``files`` repeats the CSV. Methods that read files raise ``UsageError`` ``image-unreadable`` and
    ``table-array``, which name the file.
    """

    is_table: ClassVar[bool] = True

    form: InputForm = field(kw_only=True)
    cells: tuple[tuple[Cell, ...], ...] = field(kw_only=True, repr=False)
    lines: tuple[int, ...] = field(kw_only=True, repr=False)
    said: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence on columns that are not used, if there are any."""
        return self.said

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the CSV and the line of each sample."""
        return tuple(f"{self.root.name}:{line}" for line in self.lines)

    def pictures(self) -> list[Any]:
        """Return each sample as ``form.pixels`` takes it."""
        samples = []
        for row in self.cells:
            values = [
                _array_from(cell, part.shape) if isinstance(part, ArrayInput) and isinstance(cell, Path) else cell
                for cell, (_, part) in zip(row, parts_of(self.form), strict=True)
            ]
            samples.append(tuple(values) if isinstance(self.form, SeveralInputs) else values[0])
        return samples

    def contents(self) -> list[bytes]:
        """Return the SHA-256 of each sample: of its files and numbers; of a single picture that of its file."""
        known: dict[Path, bytes] = {}

        def digest(cell: Cell) -> bytes:
            if isinstance(cell, Path):
                if cell not in known:
                    known[cell] = file_digest(cell)
                return known[cell]
            return hashlib.sha256(cell.astype("<f4").tobytes()).digest()

        rows = [[digest(cell) for cell in row] for row in self.cells]
        return [row[0] if len(row) == 1 else hashlib.sha256(b"".join(row)).digest() for row in rows]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the contents of the samples, in order. Reads every file."""
        total = hashlib.sha256(f"table of {len(parts_of(self.form))}\n".encode())
        for content in self.contents():
            total.update(content)
        return total.hexdigest()

    def spans(self) -> tuple[tuple[float, float] | None, ...]:
        """Return the least and the largest number of each input; None for a picture. Reads the ``.npy`` files."""
        spans: list[tuple[float, float] | None] = []
        for index, (_, part) in enumerate(parts_of(self.form)):
            if isinstance(part, Preprocess):
                spans.append(None)
                continue
            columns = (row[index] for row in self.cells)
            arrays = (_array_from(cell, part.shape) if isinstance(cell, Path) else cell for cell in columns)
            ends = [(float(array.min()), float(array.max())) for array in arrays]
            spans.append((min(low for low, _ in ends), max(high for _, high in ends)))
        return tuple(spans)

    def _subset(self, indices: Sequence[int]) -> Table:
        return replace(
            self,
            files=tuple(self.files[index] for index in indices),
            labels=None if self.labels is None else tuple(self.labels[index] for index in indices),
            cells=tuple(self.cells[index] for index in indices),
            lines=tuple(self.lines[index] for index in indices),
        )


@dataclass(frozen=True, slots=True)
class RawTable:
    """The text of a table: the names of its columns, and the number and the cells of each line."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...] = field(repr=False)

    def column(self, name: str) -> tuple[str, ...]:
        """Return the cells of a column, without blanks around them."""
        index = self.columns.index(name)
        return tuple(row[index].strip() for _, row in self.rows)


def is_table(path: Path) -> bool:
    """Tell a table from a folder by its suffix."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def read_table(path: Path) -> RawTable:
    """Read the text of a table: UTF-8, a header, then a line for each sample.

    ``UsageError``: ``no-table``: it cannot be read; ``bad-table``: no UTF-8 or CSV, no header, a column twice, a line
    of another length, no samples; ``table-too-large``.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(path, f"{size:,} bytes, over {MAX_BYTES:,}")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"the table {path} cannot be read: {error.strerror or error}",
            hint="give a CSV file with one column for each input",
            code="no-table",
        ) from error
    except UnicodeDecodeError as error:
        raise _bad(path, f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    rows: list[tuple[int, tuple[str, ...]]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = tuple(name.strip() for name in next(reader, ()))
        for row in reader:
            if not row:
                continue
            if len(row) != len(columns):
                raise _bad(path, f"line {reader.line_num} has {len(row)} cells, and the header has {len(columns)}")
            if len(rows) == MAX_ROWS:
                raise _too_large(path, f"more than {MAX_ROWS:,} lines")
            rows.append((reader.line_num, tuple(row)))
    except csv.Error as error:
        raise _bad(path, f"line {reader.line_num}: {error}") from error
    if len(set(columns)) != len(columns) or not all(columns):
        raise _bad(path, f"its header is {', '.join(map(repr, columns))[:200]}: each column needs a name of its own")
    if not rows:
        raise _bad(path, "it has no samples after its header")
    return RawTable(path, columns, tuple(rows))


def open_table(raw: RawTable, form: InputForm, labels: tuple[int, ...] | None = None) -> Table:
    """Return the samples of a table for a model that reads ``form``, with the class of each if there are ``labels``.

    The cell of a picture names a file; that of an array holds its numbers, separated by blanks or semicolons, row by
    row, or names an ``.npy`` file. Files are relative to the folder of the CSV, and inside it.

    ``UsageError``: ``table-columns``: a column is missing; ``table-path``: a file outside the folder; ``table-file``:
    no such file; ``table-numbers``: no numbers, another number of them, NaN or infinity; ``table-too-large``.
    """
    parts = parts_of(form)
    columns = [_column(raw, name, parts) for name, _ in parts]
    numbers = sum(math.prod(part.shape) for _, part in parts if isinstance(part, ArrayInput))
    cells = []
    here = raw.path.parent
    in_cells = 0
    for line, row in raw.rows:
        made: list[Cell] = []
        for index, (_, part) in zip(columns, parts, strict=True):
            where, text = f"{raw.path}: line {line}, column {raw.columns[index]}", row[index].strip()
            if isinstance(part, Preprocess) or text.lower().endswith(ARRAY_SUFFIX):
                made.append(_file(here, text, where))
            else:
                array = numbers_from(text, part.shape, where)
                made.append(array)
                in_cells += array.size
        if in_cells > MAX_NUMBERS:
            raise _too_large(raw.path, f"more than {MAX_NUMBERS:,} numbers, {numbers:,} a line")
        cells.append(tuple(made))
    unused = [name for at, name in enumerate(raw.columns) if at not in columns and name != LABEL]
    said = (f"columns of {raw.path.name} that no input reads: {', '.join(unused)}",) if unused else ()
    files = (raw.path,) * len(cells)
    lines = tuple(line for line, _ in raw.rows)
    return Table(raw.path, files, labels, form=form, cells=tuple(cells), lines=lines, said=said)


def measured_spans(form: InputForm, samples: ImageSet | None) -> tuple[InputForm, tuple[str, ...]]:
    """Return ``form`` with the least and the largest number of each array in the ``samples``, and notes."""
    names = [name for name, part in parts_of(form) if isinstance(part, ArrayInput)]
    if not names:
        return form, ()
    if isinstance(samples, Table):
        return with_spans(form, samples.spans()), ()
    of = f" of {', '.join(names)}" if names != [""] else ""
    return form, (f"no data show the range of the numbers{of}: parity is measured on numbers from 0 to 1",)


def expected_columns(form: InputForm) -> str:
    """Return the columns of a table for a model, for hints."""
    names = form.names if isinstance(form, SeveralInputs) else (_SINGLE[0],)
    return ", ".join((*names, LABEL))


def value_from(text: str, part: Preprocess | ArrayInput, where: str) -> Cell:
    """Return a value of the command line: the path of a picture, or the numbers of an array, as in a cell of a table.

    ``UsageError``: ``table-numbers``, ``table-array``.
    """
    if isinstance(part, Preprocess):
        return Path(text)
    if text.lower().endswith(ARRAY_SUFFIX):
        return _array_from(Path(text), part.shape)
    return numbers_from(text, part.shape, where)


def numbers_from(text: str, shape: tuple[int, ...], where: str) -> NDArray[np.float32]:
    """Read the numbers of an array, separated by blanks or semicolons, in row-major order: ``shape`` float32.

    ``UsageError`` ``table-numbers``, whose message begins with ``where``.
    """
    words = re.split(r"[;\s]+", text.strip(" ;\t")) if text.strip(" ;\t") else []
    problem, count = "", math.prod(shape)
    values = np.empty(0, np.float32)
    if len(words) != count:
        problem = f"{len(words)} numbers, and the input has {count}"
    else:
        try:
            with np.errstate(over="ignore"):  # infinity is refused below
                values = np.array([_number(word) for word in words], np.float64).astype(np.float32)
        except ValueError as error:
            problem = str(error)
    if not problem and not np.isfinite(values).all():
        problem = "NaN, infinity or a number that float32 cannot hold"
    if problem:
        raise UsageError(
            f"{where} has {problem}",
            hint=f"write {count} finite number{'' if count == 1 else 's'} with blanks between them, or the name of an "
            f"{ARRAY_SUFFIX} file",
            code="table-numbers",
        )
    return values.reshape(shape)


def _number(word: str) -> float:
    if not re.fullmatch(
        r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?|[+-]?(nan|inf|infinity)", word, re.IGNORECASE | re.ASCII
    ):
        raise ValueError(f"{word[:40]!r}, which is no number")
    return float(word)


def _column(raw: RawTable, name: str, parts: Sequence[tuple[str, Any]]) -> int:
    wanted = (name,) if name else _SINGLE
    found = [column for column in raw.columns if column in wanted]
    if not name and not found:  # a single input may have any name
        found = [column for column in raw.columns if column != LABEL][:2]
    if len(found) != 1:
        names = [part for part, _ in parts if part] or [_SINGLE[0]]
        raise UsageError(
            f"{raw.path} has the columns {', '.join(raw.columns)}, and the model reads {', '.join(names)}",
            hint="name one column after each input, and add a column label for --eval",
            code="table-columns",
        )
    return raw.columns.index(found[0])


def _file(here: Path, text: str, where: str) -> Path:
    plain = text.replace("\\", "/")
    path = PurePosixPath(plain)
    if not text or path.is_absolute() or ".." in path.parts or PureWindowsPath(text).drive or "\0" in text:
        raise UsageError(
            f"{where} names {text[:200]!r}, which is no file inside the folder of the table",
            hint="name files relative to the folder of the CSV, and put the CSV above them",
            code="table-path",
        )
    file = here / path
    if not file.is_file():
        raise UsageError(
            f"{where} names {plain[:200]}, and there is no such file in {here}",
            hint="name files relative to the folder of the CSV",
            code="table-file",
        )
    return file


def _array_from(file: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Read an ``.npy`` file of numbers; ``UsageError`` ``table-array``. Nothing of another shape is read."""
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
            raise ValueError("it holds no array of numbers")
        if values.shape != shape:
            raise ValueError(f"its shape is {values.shape}, and the input is {shape}")
        with np.errstate(over="ignore"):
            numbers = np.array(values, np.float32)
        if not np.isfinite(numbers).all():
            raise ValueError("it holds NaN or infinity")
    except (OSError, ValueError, EOFError, SyntaxError) as error:  # the header is a Python literal
        raise UsageError(
            f"the array {file} cannot be used: {' '.join(str(error).split())[:200]}",
            hint=f"save it with numpy.save, with the shape {shape}",
            code="table-array",
        ) from error
    return numbers


def _bad(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"{path}: {problem}",
        hint="write a CSV: a header with one column for each input and label, then one line for each sample",
        code="bad-table",
    )


def _too_large(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"{path} has {problem}",
        hint=f"use fewer samples, or put arrays into {ARRAY_SUFFIX} files",
        code="table-too-large",
    )
