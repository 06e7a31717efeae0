"""JSON from somewhere else, read strictly: no NaN, no key twice, no control characters, no surprises in size.

Everything that is wrong is a ``BundleError``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias, TypeVar

from xxdeploy.errors import BundleError

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
T = TypeVar("T")

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Unicode's categories Cc and Cs. The module `unicodedata` knows them, too, but takes 0.3 MB of a start."""
MAX_BYTES = 4 << 20
"""Largest manifest that is read; one of a real bundle has some tens of kilobytes."""


def parse(text: str | bytes) -> JsonValue:
    """Parse a whole document.

    ``BundleError``: ``manifest-json`` (no JSON or UTF-8, NaN, infinity, a key twice, nested too deep),
    ``manifest-too-large`` (over ``MAX_BYTES``), ``manifest-text`` (control characters).
    """
    if len(text) > MAX_BYTES:
        told = f"the manifest has more than {MAX_BYTES} bytes"
        raise BundleError(told, hint="this is no bundle of xxdeploy", code="manifest-too-large")

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    def finite(digits: str) -> float:
        value = float(digits)
        return value if math.isfinite(value) else refuse(digits[:40])

    def unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        keys = dict(pairs)
        if len(keys) != len(pairs):
            raise ValueError("a key occurs twice in one object")
        return keys

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value: JsonValue = json.loads(text, parse_constant=refuse, parse_float=finite, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # ValueError: bad JSON, bad UTF-8, an integer of 5,000 digits
        raise BundleError(
            f"the manifest is not valid JSON: {error}", hint="copy or export the bundle again", code="manifest-json"
        ) from error
    _check_text(value)
    return value


def _check_text(document: JsonValue) -> None:
    """Refuse control characters and lone surrogates: these strings end up on terminals and in file names."""
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if CONTROL.search(value):
                raise BundleError(
                    f"the manifest has a control character in {value[:80]!r}",
                    hint="export the bundle again",
                    code="manifest-text",
                )
        elif isinstance(value, Mapping):
            stack.extend((*value.keys(), *value.values()))
        elif isinstance(value, Sequence):
            stack.extend(value)


def as_object(value: JsonValue, where: str) -> Mapping[str, JsonValue]:
    """Return ``value`` if it is an object. ``where`` names it in the error."""
    return typed(value, dict, where)


def as_record(value: JsonValue, keys: Collection[str], where: str) -> Mapping[str, JsonValue]:
    """Return ``value`` if it is an object with exactly these keys (else ``manifest-keys``)."""
    record = as_object(value, where)
    missing, unknown = sorted(set(keys) - set(record)), sorted(set(record) - set(keys))
    if missing or unknown:
        told = [f"{kind} {', '.join(names)}" for kind, names in (("missing", missing), ("unknown", unknown)) if names]
        raise BundleError(
            f"{where} has the wrong keys: {'; '.join(told)[:300]}",
            hint="export the bundle again, or update xxdeploy",
            code="manifest-keys",
        )
    return record


def typed(value: object, kind: type[T], where: str) -> T:
    """Return ``value`` if it is a ``kind`` (else ``manifest-value``); true and false are no numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise wrong_value(f"{where[:80]} must be of type {kind.__name__}, not {type(value).__name__}")
    return value


def wrong_value(message: str) -> BundleError:
    """Return the error for a value of the wrong type or outside its range."""
    return BundleError(f"the manifest is wrong: {message}", hint="export the bundle again", code="manifest-value")
