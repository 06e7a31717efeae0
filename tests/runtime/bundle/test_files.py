"""Bundles that cannot be opened: the hint names those that are there."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.files import open_bundle


def refused(path: Path) -> tuple[str, str | None]:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return caught.value.code, caught.value.hint


def test_a_hint_names_bundles_that_open(tmp_path: Path) -> None:
    made = [tiny_bundle.make(tmp_path / name) for name in ("a", "b")]
    named = f"bundles there: {made[0]}, {made[1]}"
    assert refused(tmp_path / "absent") == ("bundle-not-found", named)
    assert refused(tmp_path) == ("not-a-bundle", named)
    for path in named.removeprefix("bundles there: ").split(", "):
        open_bundle(Path(path))


def test_a_file_of_a_bundle_leads_to_its_folder(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "a")
    assert refused(bundle / "manifest.json") == ("not-a-bundle", f"give its folder, {bundle}")


def test_at_most_three_bundles_are_named(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    hint = refused(tmp_path)[1] or ""
    assert hint.endswith("c and 2 more")
    assert str(tmp_path / "d") not in hint


def test_without_a_bundle_the_hint_says_what_to_check(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent") == ("bundle-not-found", "check the path")
    assert refused(tmp_path / "no" / "folder") == ("bundle-not-found", "check the path")
    assert refused(tmp_path) == ("not-a-bundle", "give the folder that `xxdeploy export` wrote")
