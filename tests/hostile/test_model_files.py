"""Damaged and hostile model files: each a clear error, no code of theirs runs, and little memory is taken."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from model_files import archive, code_of, layer, legacy, model, refused, weights

from xxdeploy.convert.user_model.quarantine import inspect_model_file
from xxdeploy.convert.user_model.quarantine.sniff import sniff
from xxdeploy.errors import UsageError, XXDeployError

# ---------------------------------------------------------------- good ones, so that the rest proves something


def test_the_good_files_are_taken(tmp_path: Path) -> None:
    found = inspect_model_file(archive(tmp_path / "a.keras"), tmp_path)
    assert (found.kind, found.numbers, found.keras_version) == ("keras", 147, "3.15.1")
    assert found.weights.parent == tmp_path
    found = inspect_model_file(legacy(tmp_path / "a.h5"), tmp_path)
    assert (found.kind, found.numbers, found.weights) == ("h5", 147, tmp_path / "a.h5")


def test_what_belongs_to_training_is_dropped_unseen(tmp_path: Path) -> None:
    config = {**model(), "compile_config": {"loss": {"module": "os", "class_name": "function", "config": "system"}}}
    found = inspect_model_file(archive(tmp_path / "a.keras", config), tmp_path)
    assert "compile_config" not in found.config


# ---------------------------------------------------------------- what the file is


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
        (b"random words", "something else"),
        (b"{}", "JSON text"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("a.keras", "a.h5"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=what) as caught:
            sniff(tmp_path / name)
        assert caught.value.code == "not-a-model"


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
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


@pytest.mark.parametrize(("name", "right"), [("a.h5", "a.keras"), ("a.onnx", "a.keras"), ("a", "a.keras")])
def test_an_archive_under_another_name(tmp_path: Path, name: str, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        sniff(archive(tmp_path / name))
    assert caught.value.code == "wrong-extension"
    assert right in caught.value.hint


def test_hdf5_under_another_name_and_behind_a_user_block(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        sniff(legacy(tmp_path / "a.keras"))
    assert caught.value.code == "wrong-extension"
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=2048) as file:
        file["a"] = 1
    assert sniff(tmp_path / "b.h5") == "h5"


def test_weights_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.weights.h5").write_bytes(weights())
    error = refused(tmp_path / "a.weights.h5", tmp_path)
    assert error.code == "weights-only"
    assert "--weights a.weights.h5" in error.hint


# ---------------------------------------------------------------- damaged


@pytest.mark.parametrize("make", [archive, legacy], ids=["keras", "h5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path: Path, make: Callable[[Path], Path], share: float) -> None:
    path = make(tmp_path / ("a.keras" if make is archive else "a.h5"))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert code_of(path, tmp_path) == "damaged-model"


def test_a_changed_byte_in_the_archive_is_seen(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras")
    data = bytearray(path.read_bytes())
    data[data.index(b'"Flatten"') + 2] ^= 1
    path.write_bytes(data)
    assert code_of(path, tmp_path) == "damaged-model"


@pytest.mark.parametrize("seed", range(8))
def test_changed_bytes_in_hdf5_are_met_in_another_process(tmp_path: Path, seed: int) -> None:
    """What libhdf5 does with them is its own affair, a crash included."""
    path = legacy(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    for at in random.integers(8, len(data), 40):
        data[at] = random.integers(256)
    path.write_bytes(data)
    with pytest.raises(XXDeployError) as caught:
        inspect_model_file(path, tmp_path)
    assert caught.value.code in ("damaged-model", "unsafe-model", "weights-only")


def test_a_process_that_dies_is_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(XXDeployError, match="ended with status 1") as caught:
        inspect_model_file(archive(tmp_path / "a.keras"), tmp_path)
    assert caught.value.code == "damaged-model"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"class_name": "Functional"}', '{"class_name": 3, "config": {}}', b"\xff"]
)
def test_configurations_that_are_none(tmp_path: Path, text: str | bytes) -> None:
    assert code_of(archive(tmp_path / "a.keras", text), tmp_path) == "damaged-model"


@pytest.mark.parametrize("depth", [200, 100_000])
def test_configurations_nested_too_deep(tmp_path: Path, depth: int) -> None:
    text = '{"class_name": "Functional", "config": {"a": ' + "[" * depth + "]" * depth + "}}"
    assert code_of(archive(tmp_path / "a.keras", text), tmp_path) in ("unsafe-model", "damaged-model")


# ---------------------------------------------------------------- archives with bad intentions


def test_a_huge_configuration(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", " " * (17 << 20), compression=zipfile.ZIP_DEFLATED)
    assert code_of(path, tmp_path) == "unsafe-model"


def test_a_bomb_by_its_claim_and_by_its_content(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "a.keras", data=bytes(64 << 20), compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    assert code_of(bomb, tmp_path) == "unsafe-model"
    data = bytearray(bomb.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # where the size is written, twice
        place = data.rindex(signature, 0, data.rindex(b"model.weights.h5"))
        assert data[place + at : place + at + 4] == struct.pack("<I", 64 << 20)
        data[place + at : place + at + 4] = struct.pack("<I", 1000)
    bomb.write_bytes(data)
    (tmp_path / "unpacked").rmdir()
    assert code_of(bomb, tmp_path) == "damaged-model"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "assets/../../evil", "C:evil", "a\\..\\evil", "a\nb"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.keras", extra=((name, b"x"),))
    assert code_of(path, tmp_path) == "unsafe-model"
    assert not list(tmp_path.rglob("evil"))


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "a.keras", extra=(("config.json", b"{}"),))
    assert code_of(path, tmp_path) == "unsafe-model"


def test_links_and_encryption(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras")
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    assert code_of(path, tmp_path) == "unsafe-model"
    path = archive(tmp_path / "b.keras")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    (tmp_path / "unpacked").rmdir()
    assert code_of(path, tmp_path) == "unsafe-model"


def test_a_million_entries_are_refused_by_the_index(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", extra=tuple((f"assets/{index}", b"") for index in range(2000)))
    assert code_of(path, tmp_path) == "unsafe-model"


def test_archives_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        file.writestr("archive/data.pkl", b"")
    error = refused(tmp_path / "a.keras", tmp_path)
    assert (error.code, "PyTorch" in error.message) == ("not-a-model", True)
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as file:
        file.writestr("config.json", json.dumps(model()))
        file.writestr("model.weights.npz", b"")
    (tmp_path / "unpacked").rmdir()
    assert code_of(tmp_path / "b.keras", tmp_path) == "not-a-model"


# ---------------------------------------------------------------- memory, and Keras itself

PROBE = """
import json, resource, sys
from pathlib import Path
from xxdeploy.convert.user_model.quarantine import inspect_model_file
from xxdeploy.errors import XXDeployError
codes = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        inspect_model_file(path, Path(sys.argv[2]))
    except XXDeployError as error:
        codes[path.name] = error.code
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
most = max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
loaded = [name for name in ("keras", "tensorflow", "h5py") if name in sys.modules]
print(json.dumps({"codes": codes, "most": most, "loaded": loaded}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory in KiB as Linux counts it")
def test_a_folder_of_bombs_takes_little_memory_and_no_keras(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    archive(folder / "zip.keras", data=bytes(128 << 20), compression=zipfile.ZIP_DEFLATED)
    archive(folder / "config.keras", b" " * (128 << 20), compression=zipfile.ZIP_DEFLATED)
    lists = '{"class_name": "Sequential", "config": {"a": [' + "[]," * (5 << 19) + "[]]}}"
    archive(folder / "lists.keras", lists)
    archive(folder / "shape.keras", data=weights(lambda file: file.create_dataset("huge", (1 << 40,), "f4")))
    archive(
        folder / "gzip.keras",
        data=weights(lambda file: file.create_dataset("huge", data=np.zeros(1 << 23, "f4"), compression="gzip")),
    )
    legacy(folder / "text.h5", b" " * (100 << 20))
    for name in ("sparse.h5", "tail.h5"):
        with (folder / name).open("wb") as file:
            file.write(legacy(tmp_path / "good.h5", lists).read_bytes() if name == "tail.h5" else b"")
            file.truncate(1 << 40)
    evil = {"name": "l", "function": {"module": "os", "class_name": "function", "config": "system"}}
    archive(folder / "lambda.keras", model(layer("keras.layers", "Lambda", evil, "image")))
    (folder / "renamed.h5").write_bytes(archive(tmp_path / "good.keras").read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(folder), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    said = json.loads(done.stdout)
    assert said["codes"] == {
        "config.keras": "unsafe-model",
        "gzip.keras": "unsafe-model",
        "lambda.keras": "lambda-layer",
        "lists.keras": "unsafe-model",
        "renamed.h5": "wrong-extension",
        "shape.keras": "unsafe-model",
        "sparse.h5": "not-a-model",
        "tail.h5": "unsafe-model",
        "text.h5": "unsafe-model",
        "zip.keras": "unsafe-model",
    }
    assert said["most"] < 1 << 20  # KiB
    assert said["loaded"] == []
