from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, residual

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import CalibrationKey, Histograms, cached_histograms, observe_histograms
from xxdeploy.quantize.calibration.cache import Checkpoint
from xxdeploy.quantize.calibration.images import Batches
from xxdeploy.results import Progress, Ranges

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


DATA = images(24)


class Killed(BaseException):
    """Stands for a signal: nothing in between may catch it."""


@pytest.fixture(scope="module")
def whole(model: OnnxModel) -> Histograms:
    return observe_histograms(model, batches(DATA), data_digest="d")


def killed_after(count: int) -> Batches:
    """Give ``DATA``, but die before the image number ``count``."""

    def stream() -> Iterator[NDArray[np.float32]]:
        for index in range(count):
            yield DATA[index : index + 1]
        raise Killed

    return stream


def interrupt(model: OnnxModel, where: Checkpoint, after: int, digest: str = "d") -> Path:
    """Calibrate until killed and return the checkpoint."""
    with pytest.raises(Killed):
        observe_histograms(model, killed_after(after), data_digest=digest, checkpoint=where)
    (path,) = where.folder.iterdir()
    return path


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(model: OnnxModel, whole: Histograms, tmp_path: Path) -> None:
    where = Checkpoint(tmp_path / "new", seconds=0)
    first = Histograms.from_bytes(interrupt(model, where, 11).read_bytes()).images
    assert 5 <= first <= 11
    interrupt(model, where, 20)
    seen: list[Progress] = []
    histograms = observe_histograms(
        model, batches(DATA, 5), data_digest="d", checkpoint=where, total=24, on_progress=seen.append
    )
    assert histograms.to_bytes() == whole.to_bytes()
    assert first < seen[0].done <= 21
    assert seen[-1] == Progress("calibrate", 24, 24)
    assert not list(where.folder.iterdir())


def test_a_short_run_writes_nothing(model: OnnxModel, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        observe_histograms(model, killed_after(5), data_digest="d", checkpoint=Checkpoint(tmp_path))
    assert not list(tmp_path.iterdir())


def test_other_images_start_anew(model: OnnxModel, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = Checkpoint(tmp_path, seconds=0)
    path = interrupt(model, where, 8, digest="others")
    seen: list[Progress] = []
    observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where, on_progress=seen.append)
    assert seen[0].done == 1
    assert path.exists()  # it is the other calibration's, which may go on
    assert not caplog.text


def damage(content: bytes) -> dict[str, bytes]:
    line, _, body = content.partition(b"\n")
    return {
        "empty": b"",
        "no JSON": b"\n" + body,
        "a list": b"[]\n" + body,
        "cut short": content[:-20],
        "one bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        "another version": line.replace(b"histograms 1", b"histograms 9") + b"\n" + body,
        "not UTF-8": b"\xff\xfe" + content,
        "no tensors": line.replace(b'"tensors"', b'"tensor"') + b"\n" + body,
        "endless images": re.sub(rb'"images": \d+', b'"images": Infinity', line) + b"\n" + body,
        "deep": b"[" * 100_000 + b"\n" + body,
        "a tensor too many": line.replace(b'"tensors": [', b'"tensors": ["more", ') + b"\n" + body,
    }


@pytest.mark.parametrize("kind", damage(b"{}\n" + bytes(40)))
def test_damage_is_ignored_with_a_warning(
    model: OnnxModel, whole: Histograms, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    where = Checkpoint(tmp_path, seconds=0)
    path = interrupt(model, where, 8)
    broken = damage(path.read_bytes())[kind]
    with pytest.raises(ConversionError) as caught:
        Histograms.from_bytes(broken)
    assert caught.value.code == "damaged-histograms"
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        histograms = observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where)
    assert "not usable" in caplog.text
    assert histograms.to_bytes() == whole.to_bytes()


def test_a_foreign_checkpoint_is_ignored(
    model: OnnxModel, whole: Histograms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = Checkpoint(tmp_path, seconds=0)
    path = interrupt(model, where, 8)
    path.write_bytes(dataclasses.replace(whole, data_digest="another").to_bytes())
    with caplog.at_level(logging.WARNING):
        histograms = observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where)
    assert "belongs to another calibration" in caplog.text
    assert histograms.to_bytes() == whole.to_bytes()


def test_a_folder_that_cannot_be_written_stops_no_calibration(
    model: OnnxModel, whole: Histograms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    where = Checkpoint(tmp_path / "file", seconds=0)
    with caplog.at_level(logging.WARNING):
        histograms = observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where)
    assert "could not be saved" in caplog.text
    assert histograms.to_bytes() == whole.to_bytes()
