from __future__ import annotations

import os
import pickle
from pathlib import Path

import h5py
import pytest
from model_files import archive, legacy

from xxdeploy.convert.user_model.quarantine.sniff import sniff
from xxdeploy.errors import UsageError


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (pickle.dumps({"a": 1}), "a Python pickle"),
        (b"\x1f\x8b\x08\x00", "a gzip archive"),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        (b"\x08\x08\x12\x04keras", "an ONNX model"),
        (b"random words", "neither a zip archive nor an HDF5 file"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("a.keras", "a.h5"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=what) as caught:
            sniff(tmp_path / name)
        assert caught.value.code == "not-a-model"


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.keras", Path("nul\x00.keras")):
        with pytest.raises(UsageError) as caught:
            sniff(path)
        assert caught.value.code == "no-model-file"
    with pytest.raises(UsageError, match="no such file"):
        sniff(tmp_path / "absent.keras")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.keras")
        with pytest.raises(UsageError, match="a device or a pipe") as caught:
            sniff(tmp_path / "pipe.keras")
        assert caught.value.code == "no-model-file"


def test_a_saved_model_folder_and_the_one_around_it(tmp_path: Path) -> None:
    inner = tmp_path / "export" / "1"
    inner.mkdir(parents=True)
    (inner / "saved_model.pb").write_bytes(b"")
    assert sniff(inner) == "saved-model"
    assert sniff(Path(f"{inner}{os.sep}")) == "saved-model"
    with pytest.raises(UsageError, match=r"without saved_model\.pb") as caught:
        sniff(inner.parent)
    assert caught.value.hint == f"its folder 1 is one: xxdeploy export {inner}"


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "a.model", "a"])
def test_the_content_decides(tmp_path: Path, name: str) -> None:
    assert sniff(archive(tmp_path / name)) == "keras"
    assert sniff(legacy(tmp_path / name)) == "h5"
    (tmp_path / name).write_text(' {"class_name": "Sequential"}')
    assert sniff(tmp_path / name) == "json"


def test_hdf5_behind_a_user_block(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=2048) as file:
        file["a"] = 1
    assert sniff(tmp_path / "b.h5") == "h5"
