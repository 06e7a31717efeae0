from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from xxdeploy.artifacts import Ranges
from xxdeploy.errors import ConversionError
from xxdeploy.quantize import CalibrationKey, cached_calibration, load_ranges, save_ranges

KEY = CalibrationKey("model", "data", "minmax", 7)
FOUND = Ranges("minmax", "model", "data", 7, {"x": (-0.1, 1 / 3), "y": (0.0, 6.0)})


class Compute:
    """Counts how often it is asked."""

    def __init__(self, answer: Ranges = FOUND) -> None:
        self.answer, self.calls = answer, 0

    def __call__(self) -> Ranges:
        self.calls += 1
        return self.answer


def test_a_result_is_computed_once(tmp_path: Path) -> None:
    compute = Compute()
    folder = tmp_path / "new" / "folder"
    assert cached_calibration(folder, KEY, compute) == FOUND
    assert cached_calibration(folder, KEY, compute) == FOUND
    assert compute.calls == 1
    assert [path.name for path in folder.iterdir()] == [KEY.path(folder).name]  # nothing half-made


@pytest.mark.parametrize(
    "other",
    [
        CalibrationKey("other", "data", "minmax", 7),
        CalibrationKey("model", "other", "minmax", 7),
        CalibrationKey("model", "data", "percentile-99", 7),
        CalibrationKey("model", "data", "minmax", 8),
    ],
)
def test_another_question_is_computed_again(
    tmp_path: Path, other: CalibrationKey, caplog: pytest.LogCaptureFixture
) -> None:
    cached_calibration(tmp_path, KEY, Compute())
    compute = Compute()
    cached_calibration(tmp_path, other, compute)
    assert compute.calls == 1
    # Even under the right name a foreign file is not believed.
    KEY.path(tmp_path).replace(other.path(tmp_path))
    with caplog.at_level(logging.WARNING):
        cached_calibration(tmp_path, other, compute)
    assert compute.calls == 2
    assert "something else" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        FOUND.to_json().replace("0.0", "NaN").encode(),
        FOUND.to_json().replace('"images": 7', '"images": "7"').encode(),
        FOUND.to_json().replace("6.0", "-6.0").encode(),
        FOUND.to_json().replace("6.0", "9" * 400).encode(),  # no float holds it; found by scripts/fuzz_atheris.py
        json.dumps({"method": "minmax"}).encode(),
        json.dumps({**json.loads(FOUND.to_json()), "extra": 1}).encode(),
        json.dumps({**json.loads(FOUND.to_json()), "ranges": {"x": 1}}).encode(),
    ],
)
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = KEY.path(tmp_path)
    path.write_bytes(damage)
    with pytest.raises(ConversionError) as caught:
        load_ranges(path)
    assert caught.value.code in ("damaged-ranges", "non-finite-range")
    compute = Compute()
    with caplog.at_level(logging.WARNING):
        assert cached_calibration(tmp_path, KEY, compute) == FOUND
    assert compute.calls == 1
    assert "not usable" in caplog.text
    assert load_ranges(path) == FOUND


def test_a_folder_that_cannot_be_written_is_no_disaster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert cached_calibration(tmp_path / "file", KEY, Compute()) == FOUND
    assert "could not be kept" in caplog.text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ranges.json"
    save_ranges(FOUND, path)

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_ranges(Ranges("minmax", "m", "d", 1, {}), path)
    assert load_ranges(path) == FOUND
    assert [each.name for each in tmp_path.iterdir()] == ["ranges.json"]
