from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from quantnets import batches, images, residual

from xxdeploy.quantize import CalibrationKey, Histograms, cached_histograms, observe_histograms
from xxdeploy.results import Ranges

RANGES = Ranges("minmax", "model", "data", 7, {"x": (-0.1, 1 / 3), "y": (0.0, 6.0)})
FOUND = observe_histograms(residual(), batches(images(7)), data_digest="data")
KEY = CalibrationKey(FOUND.model_digest, "data", 7)


class Compute:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Histograms:
        self.calls += 1
        return FOUND


def kept(folder: Path, key: CalibrationKey = KEY) -> Path:
    """Return the file that holds the histograms of ``key``."""
    return key.path(folder)


def test_a_result_is_computed_once(tmp_path: Path) -> None:
    compute = Compute()
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        assert cached_histograms(folder, KEY, compute).to_bytes() == FOUND.to_bytes()
    assert compute.calls == 1
    assert list(folder.iterdir()) == [kept(folder)]  # nothing half-made


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model_digest="other"),
        replace(KEY, data_digest="other"),
        replace(KEY, images=8),
    ],
)
def test_another_question_is_computed_again(
    tmp_path: Path, other: CalibrationKey, caplog: pytest.LogCaptureFixture
) -> None:
    cached_histograms(tmp_path, KEY, Compute())
    compute = Compute()
    cached_histograms(tmp_path, other, compute)
    assert compute.calls == 1
    # Even under the right name a foreign file is not believed.
    kept(tmp_path).replace(kept(tmp_path, other))
    with caplog.at_level(logging.WARNING):
        cached_histograms(tmp_path, other, compute)
    assert compute.calls == 2
    assert "another calibration" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"{", FOUND.to_bytes()[:-1]])
def test_a_damaged_file_is_replaced(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = kept(tmp_path)
    path.write_bytes(damage)
    compute = Compute()
    with caplog.at_level(logging.WARNING):
        assert cached_histograms(tmp_path, KEY, compute) is FOUND
    assert compute.calls == 1
    assert "not usable" in caplog.text
    assert path.read_bytes() == FOUND.to_bytes()


def test_a_folder_that_cannot_be_written_is_no_disaster(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        assert cached_histograms(tmp_path / "file", KEY, Compute()) is FOUND
    assert "could not be cached" in caplog.text
