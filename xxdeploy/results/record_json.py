"""Frozen dataclasses as JSON values, and back: types are checked, since a manifest comes from somewhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from xxdeploy.runtime.bundle.strict_json import JsonValue, as_object, typed, wrong_value

R = TypeVar("R")
_LARGEST_INTEGER = 1 << 53


def json_from_record(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as JSON values, without those that have their default."""
    document = {}
    for entry in fields(record):
        value = getattr(record, entry.name)
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        if value != default or isinstance(value, bool):
            document[entry.name] = _json(value)
    return document


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return json_from_record(value) if is_dataclass(value) else dict(value) if isinstance(value, Mapping) else value


def record_from_json(kind: type[R], value: JsonValue, where: str) -> R:
    """Read a dataclass: unknown keys are skipped, absent ones take their default, types are those of the fields."""
    entries, hints = as_object(value, where), get_type_hints(kind)
    values = {
        entry.name: _value(hints[entry.name], entries[entry.name], f"{where}.{entry.name}")
        for entry in fields(kind)  # type: ignore[arg-type]
        if entry.name in entries
    }
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # a key is absent; a number is out of range
        raise wrong_value(f"{where} cannot be read: {str(error)[:200]}") from error


def _value(kind: Any, value: JsonValue, where: str) -> Any:
    """Return ``value`` as a ``kind``, the type of a dataclass's field."""
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:  # X | None
        return None if value is None else _value(arguments[0], value, where)
    if origin is tuple:
        items = typed(value, list, where)
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(items):
            raise wrong_value(f"{where} must have {len(kinds)} entries, not {len(items)}")
        return tuple(_value(inner, item, where) for inner, item in zip(kinds, items, strict=True))
    if origin is Mapping:
        return {key: _value(arguments[1], item, where) for key, item in as_object(value, where).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return record_from_json(kind, value, where)
    if kind is float:
        number = float(value) if type(value) is int and abs(value) < _LARGEST_INTEGER else typed(value, float, where)
        if not math.isfinite(number):
            raise wrong_value(f"{where} must be finite")
        return number
    return typed(value, kind, where)
