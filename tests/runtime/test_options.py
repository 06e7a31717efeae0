"""The keywords of ``load``: names, types, what was renamed, and what excludes what."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.select import Settings
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.image.picture import MAX_PIXELS
from xxdeploy.runtime.options import DEVICE_PIXELS, LoadKeywords, LoadOptions


def test_the_keywords_are_the_fields() -> None:
    assert set(LoadKeywords.__annotations__) == {entry.name for entry in fields(LoadOptions) if entry.init}


def test_defaults() -> None:
    options = LoadOptions.of({})
    assert (options.settings_for(()), options.trust, options.may_be_tuned) == (Settings(), None, True)
    assert (options.check, options.selftest, options.max_pixels) == (True, False, DEVICE_PIXELS)


@pytest.mark.parametrize("name", ["thread", "tunning", "trust", "bundle2"])
def test_an_unknown_keyword_is_a_type_error_that_names_it(name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        load("anywhere", **{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tune", "tuned"])
def test_the_old_names_say_the_new_one(name: str) -> None:
    with pytest.raises(UsageError, match=f"no argument {name} ") as caught:
        load("anywhere", **{name: True})  # type: ignore[arg-type]
    assert caught.value.code == "renamed-argument"
    assert "tuning='" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "4"),
        ("threads", True),
        ("engine", 3),
        ("variant", b"int8"),
        ("check", 1),
        ("selftest", "yes"),
        ("max_pixels", 1e6),
    ],
)
def test_values_of_another_type(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must not be"):
        load("anywhere", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"tuning": "always"}, "tuning-invalid"),
        ({"min_version": 3}, "min-version-without-key"),
        ({"min_version": -1}, "version-invalid"),
        ({"key": b"none"}, "key-invalid"),
    ],
)
def test_values_that_cannot_be(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        LoadOptions.of(options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "options",
    [{"tuning": "off"}, {"threads": 1}, {"engine": "onnxruntime"}, {"variant": "int8"}, {"session": Session()}],
)
def test_what_turns_tuning_off(options: dict[str, Any]) -> None:
    assert not LoadOptions.of(options).may_be_tuned


def test_the_largest_picture_has_a_limit() -> None:
    assert LoadOptions(max_pixels=1 << 40).max_pixels == MAX_PIXELS
