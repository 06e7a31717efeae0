"""The cache folder: what counts as its content, and what is removed first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.cache import LIMIT_VARIABLE, PARTS, cache_root, clear, entries, keras_downloads, limit_bytes, trim
from xxdeploy.engine.record import timing_path
from xxdeploy.errors import UsageError
from xxdeploy.files import CACHE_VARIABLE, cache_folder
from xxdeploy.quantize.calibration.cache import CalibrationKey, cached_histograms
from xxdeploy.quantize.calibration.histograms import Histograms
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.select import Settings
from xxdeploy.runtime.tune_store import Choice, store_choice


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    return tmp_path / "cache"


def put(root: Path, name: str, size: int, used: float) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def names(digit: str) -> list[str]:
    return [
        f"calibration/histograms-{digit * 24}.bin",
        f"engines/timing-{digit * 32}.cache",
        f"openvino/{digit * 20}.blob",
        f"tuned/{digit * 32}.json",
    ]


def test_an_absent_cache_is_empty(root: Path) -> None:
    assert (cache_root(), entries(), clear().files) == (root, (), 0)


def test_the_files_of_every_step_are_known(root: Path, bundle: Path) -> None:
    pytest.importorskip("openvino", reason="pip install 'xxdeploy[openvino]'")
    load(bundle, engine="openvino").close()
    manifest = tiny_bundle.parts_and_manifest()[1]
    store_choice(manifest, Choice("portable", Settings(threads=1), {}, 1.0, 2.0))
    key = CalibrationKey("a", "b", 1)
    folder = cache_folder("calibration")
    assert folder is not None
    cached_histograms(folder, key, lambda: Histograms("a", "b", 1, {}))
    timing = timing_path(root / "engines", version="10", gpu="x")
    timing.parent.mkdir(parents=True)
    timing.touch()
    present = {path for path in root.rglob("*") if path.is_file()}
    assert {entry.path for entry in entries()} == present
    assert {entry.part for entry in entries()} == {part.name for part in PARTS}


def test_the_least_recently_used_files_go_first(root: Path) -> None:
    old, middle, new, _ = (put(root, name, 100, when) for name, when in zip(names("1"), (10, 30, 40, 20), strict=True))
    assert [entry.used for entry in entries()] == [10, 20, 30, 40]
    assert (clear(down_to=250).files, old.exists(), middle.exists()) == (2, False, True)
    assert clear(down_to=200).files == 0
    assert clear("openvino").files == 1
    assert (new.exists(), middle.exists()) == (False, True)
    assert clear().size == 100
    assert entries() == ()


def test_files_of_others_are_never_removed(root: Path, tmp_path: Path) -> None:
    mine = [
        put(root, name, 10, 1)
        for name in ("notes.txt", "calibration/mine.bin", "engines/report.json", "openvino/a.blob", "tuned/x.json")
    ]
    outside = put(tmp_path, "outside", 10, 1)
    (root / "tuned" / f"{'a' * 32}.json").symlink_to(outside)
    (root / "openvino" / "1.blob").mkdir()
    clear()
    assert all(path.exists() for path in (*mine, outside, root / "tuned" / f"{'a' * 32}.json"))


def test_leftovers_of_killed_processes_are_removed(root: Path) -> None:
    left = put(root, f"calibration/.histograms-{'a' * 24}.bin-0123abcd", 10, 1)
    assert clear().files == 1
    assert not left.exists()


def test_a_file_that_was_just_written_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0.00025")
    old, newer = (put(root, name, 100, when) for name, when in zip(names("1")[:2], (10, 20), strict=True))
    written = put(root, names("2")[3], 100, 5)
    trim(written)
    assert (old.exists(), newer.exists(), written.exists()) == (False, True, True)
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    trim(written)
    assert (newer.exists(), written.exists()) == (False, True)


def test_a_choice_that_is_stored_keeps_the_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    old = put(root, names("1")[0], 100, 1)
    path = store_choice(tiny_bundle.parts_and_manifest()[1], Choice("portable", Settings(threads=1), {}, 1.0, 2.0))
    assert path is not None
    assert (old.exists(), path.exists()) == (False, True)


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf", "1e308"])
def test_a_limit_that_is_none(text: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(UsageError) as caught:
        limit_bytes()
    assert caught.value.code == "cache-limit"
    written = put(root, names("1")[0], 10, 1)
    trim(written)  # logs a warning, and goes on
    assert written.exists()


def test_weights_that_keras_downloaded_are_counted_and_stay(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert keras_downloads() is None
    weights = put(tmp_path, "keras/models/mobilenet.h5", 100, 1)
    assert keras_downloads() == (weights.parent, 100)
    clear()
    assert weights.exists()


def test_an_unknown_part_is_named(root: Path) -> None:
    with pytest.raises(UsageError) as caught:
        clear("opnvino")
    assert caught.value.code == "cache-part"
