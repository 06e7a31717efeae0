"""An option of an export as a field of a frozen dataclass, and everything that is derived from such fields."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from xxdeploy.errors import UsageError

PRECISIONS = ("fp32", "fp16", "int8")
INT8, ROUNDED = ("int8",), ("fp16", "int8")
Value: TypeAlias = str | int | float | bool | Path | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """The exports to which an option applies, and the places where it may be set.

    It has an effect in ``precisions``; the others refuse it, or ignore it if ``ignored``. ``target`` and ``source`` are
    set if it is for one kind of target or of model only. ``in_file``: the TOML file of a batch may set it. A file may
    come from somebody else, so options that run the user's code are for the command line. A text with one of the
    ``suffixes`` names a file; one of ``names`` names something that ships, unless a file of that name is there.
    """

    precisions: tuple[str, ...] = PRECISIONS
    ignored: bool = False
    target: Literal["cpu", "gpu", "web"] | None = None
    source: Literal["catalog", "file"] | None = None
    in_file: bool = True
    suffixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def option(default: object, text: str, *, name: str | None = None, **scope: Any) -> Any:
    """Declare an option: its default, its help text, its ``name`` if that is not the field's, and its scope."""
    return field(default=default, metadata={"help": text, "name": name, "scope": Scope(**scope)})


@dataclass(frozen=True, slots=True)
class Option:
    """One option as the code that lists all of them sees it.

    ``name`` is its name on the command line without dashes; ``field`` its name in its dataclass; ``kind`` is str, int,
    float, bool, tuple or Path.
    """

    name: str
    field: str
    kind: type
    default: Value | None
    scope: Scope

    def accepted_by(self, precision: str) -> bool:
        """Return whether exports in a precision accept the option, which may have no effect there."""
        return precision in self.scope.precisions or self.scope.ignored

    def names_file(self, value: Value) -> bool:
        """Return whether ``value`` names a file or folder."""
        return self.kind is Path or (isinstance(value, str) and value.lower().endswith(self.scope.suffixes or "\0"))


@cache
def options_in(group: Any) -> tuple[Option, ...]:
    """Return the options that a dataclass declares."""
    hints = typing.get_type_hints(group)
    return tuple(
        Option(
            name=declared.metadata["name"] or declared.name.replace("_", "-"),
            field=declared.name,
            kind=_kind(hints[declared.name]),
            default=cast("Value | None", declared.default),
            scope=declared.metadata["scope"],
        )
        for declared in fields(group)
    )


def given_in(groups: Iterable[Any]) -> dict[Option, Value]:
    """Return the options in some groups that differ from their defaults."""
    return {
        declared: value
        for group in groups
        for declared in options_in(group.__class__)
        if (value := getattr(group, declared.field)) != declared.default
    }


def words_of(given: Mapping[str, Value]) -> list[str]:
    """Write options as words of the command line."""
    words = []
    for name, value in given.items():
        if isinstance(value, bool):
            words += [f"--{name}"] if value else []
        else:
            words += [f"--{name}={item}" for item in (value if isinstance(value, tuple) else (value,))]
    return words


def flag_of(precision: str) -> dict[str, bool]:
    """Return the option for a precision: ``{"int8": True}``, none for fp32. ``UsageError`` ``unknown-precision``."""
    if precision not in PRECISIONS:
        raise UsageError(f"there is no precision {precision!r}", hint=" or ".join(PRECISIONS), code="unknown-precision")
    return {} if precision == "fp32" else {precision: True}


def refuse(options: Iterable[Option], rest: str, *, hint: str, code: str) -> None:
    """Raise ``UsageError`` if there are any ``options``: they apply ``rest``."""
    if names := [f"--{option.name}" for option in options]:
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        verb = "applies" if len(names) == 1 else "apply"
        raise UsageError(f"{listed} {verb} {rest}", hint=f"{hint} {listed}", code=code)


CLASSES = "classes"
"""The value of ``--output-range`` for a mask."""


def range_of(text: str) -> tuple[float, float] | None:
    """Read ``--output-range``: two numbers with two dots between them, the smaller first; None for ``classes``.

    ``UsageError`` ``output-range``.
    """
    if text == CLASSES:
        return None
    low, dots, high = text.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not dots or not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise UsageError(
            f"--output-range {text!r} is not a range",
            hint="give the values of black and white with two dots (--output-range 0..1, --output-range=-1..1), or "
            f"--output-range {CLASSES} for a mask",
            code="output-range",
        )
    return ends


def check_choice(group: Any, name: str, *, code: str) -> None:
    """Raise ``UsageError`` unless a field has one of the values of its ``Literal`` type."""
    option = next(option for option in options_in(group.__class__) if option.field == name)
    value, choices = getattr(group, name), typing.get_args(_without_none(typing.get_type_hints(type(group))[name]))
    if value is not None and value not in choices:
        raise UsageError(
            f"there is no {name.replace('_', ' ')} {value!r}",
            hint=f"--{option.name} {'|'.join(choices)}",
            code=code,
        )


def _kind(hint: Any) -> type:
    hint = _without_none(hint)
    kind: type = str if typing.get_origin(hint) is Literal else typing.get_origin(hint) or hint
    return kind


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint
