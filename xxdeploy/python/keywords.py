"""The options of an export as keyword arguments. They are those of the command line, from the same dataclasses."""

from __future__ import annotations

import difflib
import inspect
import keyword
import numbers
import os
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.exporter.option_fields import Option
from xxdeploy.exporter.options import GROUPS, OPTIONS, ExportOptions


def _keyword(name: str) -> str:
    """Return an option's keyword: ``max_drop`` for ``max-drop``, ``with_`` for ``with``, a word of Python's."""
    word = name.replace("-", "_")
    return f"{word}_" if keyword.iskeyword(word) else word


KEYWORDS: Mapping[str, Option] = {_keyword(name): option for name, option in OPTIONS.items()}
"""Every option by its keyword: ``max_drop`` for ``--max-drop``."""
OWN = ("out", "quiet", "on_progress")
"""The other arguments of ``xxdeploy.export``."""
_WORDS = {str: "a text", Path: "a path", int: "a whole number", float: "a number", bool: "True or False"}
_CHOICES = {
    word
    for group in GROUPS.values()
    for hint in typing.get_type_hints(group).values()
    for kind in (hint, *typing.get_args(hint))
    if typing.get_origin(kind) is typing.Literal
    for word in typing.get_args(kind)
}
_VALUES = "|".join(
    sorted(map(re.escape, {*_CHOICES, "auto", "photos", "none", "tf", "classes"}), key=len, reverse=True)
)
_FLAG = re.compile(
    r"--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)"
    r"(?:[ =](FILE|FOLDER|NAME|N|[a-z0-9.]+(?:\|[A-Za-z0-9.]+)+|-?[0-9]+\.\.[0-9]+|[0-9]+(?:\.[0-9]+)?|"
    rf"(?:{_VALUES})(?![\w-])))?"
)
"""An option of the command line in a sentence, with its value where one follows."""


def options_from(given: Mapping[str, Any]) -> ExportOptions:
    """Return the options that keyword arguments ask for; None is the default of an option.

    ``UsageError``: ``unknown-option``, with the nearest name; ``option-type``: a value of another type; those of
    ``ExportOptions``.
    """
    values = {}
    for name, value in given.items():
        if name not in KEYWORDS:
            raise _unknown(name)
        if value is not None:
            values[KEYWORDS[name].field] = _checked(name, KEYWORDS[name], value)
    return ExportOptions().changed(**values)


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of ``export`` with every option as a keyword of its own, for ``help()`` and completion."""
    own = inspect.signature(function)
    kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
        for name, option in KEYWORDS.items()
    ]
    return own.replace(parameters=[*kept, *options])


def in_python(text: str) -> str:
    """Write the options that a sentence names as keyword arguments: ``eval=FOLDER`` for ``--eval FOLDER``."""

    def rewritten(match: re.Match[str]) -> str:
        name, value = _keyword(match[1]), match[2]
        if name not in KEYWORDS:
            return match[0]
        if KEYWORDS[name].kind is bool:
            return f"{name}=True" + (f" {value}" if value else "")
        if value is None:
            return name
        is_text = value[0].islower() or ".." in value
        return f"{name}={value!r}" if is_text and "|" not in value else f"{name}={value}"

    return _FLAG.sub(rewritten, text)


def reworded(error: XXDeployError, folder: Path) -> None:
    """Let an error speak of keyword arguments, and of ``folder``, a temporary one, not at all."""
    error.message, error.hint = (
        in_python(text.replace(f"{folder}{os.sep}", "")) for text in (error.message, error.hint)
    )


def _unknown(name: str) -> UsageError:
    known = [*KEYWORDS, *OWN]
    fields = {option.field: keyword for keyword, option in KEYWORDS.items()}
    near = [fields[name]] if name in fields else difflib.get_close_matches(name.lower().replace("-", "_"), known, n=3)
    return UsageError(
        f"xxdeploy.export has no option {name!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"the options are {', '.join(known)}",
        code="unknown-option",
    )


def _checked(name: str, option: Option, value: Any) -> Any:
    """Return a value in the type of its field."""
    kind = option.kind
    if kind in (str, Path) and isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            home = text.startswith("~") and (kind is Path or option.names_file(text))
            text = str(Path(text).expanduser()) if home else text
            return Path(text) if kind is Path else text
    elif kind is bool and str(type(value).__name__) in ("bool", "bool_"):
        return bool(value)
    elif kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    elif kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    elif kind is tuple and isinstance(value, (str, list, tuple)):
        texts = (value,) if isinstance(value, str) else tuple(value)
        if all(isinstance(text, str) and text for text in texts):
            return texts
    wanted = "a text, or several in a list" if kind is tuple else _WORDS[kind]
    raise UsageError(
        f"{name} must be {wanted}, not {type(value).__name__} {str(value)[:60]!r}",
        hint=f"leave {name} out for the default: {option.default!r}",
        code="option-type",
    )
