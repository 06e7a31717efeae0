from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, residual

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.calibration.calibrate import observe_histograms
from xxdeploy.quantize.calibration.checkpoint import Checkpoint
from xxdeploy.quantize.calibration.histograms import Histograms
from xxdeploy.quantize.calibration.images import Batches
from xxdeploy.results import Progress

DATA = images(24)


class Killed(BaseException):
    """Stands for a signal: nothing in between may catch it."""


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return residual()


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
    found = observe_histograms(
        model, batches(DATA, 5), data_digest="d", checkpoint=where, total=24, on_progress=seen.append
    )
    assert found.to_bytes() == whole.to_bytes()
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


def damage(data: bytes) -> dict[str, bytes]:
    line, _, body = data.partition(b"\n")
    return {
        "empty": b"",
        "no JSON": b"\n" + body,
        "a list": b"[]\n" + body,
        "cut short": data[:-20],
        "one bit": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        "another version": line.replace(b"histograms 1", b"histograms 9") + b"\n" + body,
        "not UTF-8": b"\xff\xfe" + data,
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
        found = observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where)
    assert "not usable" in caplog.text
    assert found.to_bytes() == whole.to_bytes()


def test_a_foreign_checkpoint_is_ignored(
    model: OnnxModel, whole: Histograms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = Checkpoint(tmp_path, seconds=0)
    path = interrupt(model, where, 8)
    path.write_bytes(dataclasses.replace(whole, data_digest="another").to_bytes())
    with caplog.at_level(logging.WARNING):
        found = observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where)
    assert "belongs to another calibration" in caplog.text
    assert found.to_bytes() == whole.to_bytes()


def test_a_folder_that_cannot_be_written_is_no_disaster(
    model: OnnxModel, whole: Histograms, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    where = Checkpoint(tmp_path / "file", seconds=0)
    with caplog.at_level(logging.WARNING):
        found = observe_histograms(model, batches(DATA), data_digest="d", checkpoint=where)
    assert "could not be saved" in caplog.text
    assert found.to_bytes() == whole.to_bytes()
