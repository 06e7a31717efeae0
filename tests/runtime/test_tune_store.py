"""The kept choice: given back for the very same question, ignored in every other case."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.files import CACHE_VARIABLE
from xxdeploy.runtime.engines.select import Settings, engine_version
from xxdeploy.runtime.tune_store import Choice, store_choice, stored_choice

_, MANIFEST = tiny_bundle.parts_and_manifest()
OTHER = tiny_bundle.parts_and_manifest(seed=1)[1]


def choice(**changes: object) -> Choice:
    versions = {"onnxruntime": engine_version("onnxruntime") or ""}
    return replace(Choice("portable", Settings(threads=1), versions, 1.5, 3.0), **changes)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


def test_there_and_back(tmp_path: Path) -> None:
    assert stored_choice(MANIFEST) is None
    path = store_choice(MANIFEST, choice())
    assert path is not None
    assert path.parent == tmp_path / "cache" / "tuned"
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # no temporary file is left
    assert stored_choice(MANIFEST) == choice()
    assert stored_choice(MANIFEST, engines=["onnxruntime"]) == choice()
    assert store_choice(MANIFEST, choice(milliseconds=1.0)) == path
    assert stored_choice(MANIFEST) == choice(milliseconds=1.0)


def test_another_bundle_or_version_is_another_question() -> None:
    store_choice(MANIFEST, choice())
    changed = replace(MANIFEST, variants=(replace(MANIFEST.variants[0], scheme="other"),))
    assert stored_choice(changed) is None
    assert stored_choice(MANIFEST) == choice()
    store_choice(MANIFEST, choice(versions={"onnxruntime": "0.1"}))
    assert stored_choice(MANIFEST) is None


def test_other_cores_are_another_question() -> None:
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores, and a system that can withhold one")
    store_choice(MANIFEST, choice())
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert stored_choice(MANIFEST) is None
    finally:
        os.sched_setaffinity(0, allowed)
    assert stored_choice(MANIFEST) == choice()


def test_a_new_engine_matters_to_who_would_try_it() -> None:
    store_choice(MANIFEST, choice())
    assert stored_choice(MANIFEST, engines=["onnxruntime", "openvino"]) is None
    assert stored_choice(MANIFEST) == choice()
    other = choice(versions={"onnxruntime": engine_version("onnxruntime") or "", "openvino": "0.1"})
    store_choice(MANIFEST, other)  # which version it is matters only if it is chosen, so it is not imported
    assert stored_choice(MANIFEST, engines=["onnxruntime", "openvino"]) == other


def _edit(**changes: object) -> Callable[[Path], None]:
    return lambda path: (path.write_text(json.dumps({**json.loads(path.read_text()), **changes})), None)[1]


def _as_pipe(path: Path) -> None:
    """Reading it would wait for ever."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(""),
        lambda path: path.write_text(path.read_text()[:-20]),
        lambda path: path.write_bytes(b"\xff" * 100),
        lambda path: path.write_text("[" * 50_000),
        lambda path: path.write_text("null"),
        lambda path: path.write_text(path.read_text() + " " * (1 << 17) + "x"),
        lambda path: (path.unlink(), path.mkdir()),
        _as_pipe,
        _edit(bundle="0" * 64),
        _edit(variant="absent"),
        _edit(versions=["onnxruntime"]),
        _edit(settings={"engine": "abacus"}),
        _edit(settings={"unknown": 1}),
        _edit(milliseconds="fast"),
    ],
)
def test_a_damaged_file_is_as_if_it_were_not_there(damage: Callable[[Path], object]) -> None:
    path = store_choice(MANIFEST, choice())
    assert path is not None
    damage(path)
    assert stored_choice(MANIFEST) is None


def test_a_folder_that_cannot_be_written_is_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    assert store_choice(MANIFEST, choice()) is None
    assert "could not be kept" in caplog.text


def test_where_there_is_no_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr(Path, "home", homeless)
    assert stored_choice(OTHER) is None
    assert store_choice(OTHER, choice()) is None
