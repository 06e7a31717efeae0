"""Good, damaged and hostile model files: no code of theirs runs, and their inspection takes little memory."""

from __future__ import annotations

import base64
import json
import marshal
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from codes import code_of
from model_files import archive, layer, legacy, model, refusal_code, refused, weights

from xxdeploy.convert.user_model.quarantine import inspect_model_file
from xxdeploy.errors import XXDeployError


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


def test_weights_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "a.weights.h5").write_bytes(weights())
    error = refused(tmp_path / "a.weights.h5", tmp_path)
    assert error.code == "weights-only"
    assert "--weights a.weights.h5" in error.hint


def test_an_architecture_and_its_weights(tmp_path: Path) -> None:
    path, numbers = tmp_path / "a.json", tmp_path / "a.weights.h5"
    path.write_text(json.dumps(model()))
    numbers.write_bytes(weights())
    found = inspect_model_file(path, tmp_path, weights=numbers)
    assert (found.kind, found.numbers, found.weights) == ("keras", 147, numbers)
    assert code_of(inspect_model_file, path, tmp_path) == "weights-missing"
    assert code_of(inspect_model_file, path, tmp_path, weights=archive(tmp_path / "b.keras")) == "not-weights"


@pytest.mark.parametrize(
    "text",
    ["\ufeff" + json.dumps(model()), json.dumps(json.dumps(model())), "\ufeff" + json.dumps(json.dumps(model()))],
    ids=["bom", "quoted", "both"],
)
def test_an_architecture_as_editors_and_json_dump_write_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    (tmp_path / "a.weights.h5").write_bytes(weights())
    found = inspect_model_file(tmp_path / "a.json", tmp_path, weights=tmp_path / "a.weights.h5")
    assert (found.kind, found.numbers, found.config["class_name"]) == ("keras", 147, model()["class_name"])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"class_name": ', "damaged-model"),
        ('{"class_name": "Sequential", "config": 7}', "damaged-model"),
        ('{"a": ' + "[" * 150 + "]" * 150 + "}", "unsafe-model"),
        ('{"a": "' + "x" * (9 << 20) + '"}', "unsafe-model"),
        (json.dumps(model(layer("os", "system", {"name": "l"}, "image"))), "unsafe-model"),
        (json.dumps(model(layer("keras.layers", "Lambda", {"name": "l"}, "image"))), "lambda-layer"),
    ],
    ids=["cut", "number", "deep", "huge", "import", "lambda"],
)
def test_a_hostile_architecture(tmp_path: Path, text: str, code: str) -> None:
    path, numbers = tmp_path / "a.json", tmp_path / "a.weights.h5"
    path.write_text(text)
    numbers.write_bytes(weights())
    assert refusal_code(path, tmp_path, weights=numbers) == code


@pytest.mark.parametrize("make", [archive, legacy], ids=["keras", "h5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_cut_short(tmp_path: Path, make: Callable[[Path], Path], share: float) -> None:
    path = make(tmp_path / ("a.keras" if make is archive else "a.h5"))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert refusal_code(path, tmp_path) == "damaged-model"


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


PROBE = """
import json, resource, sys
from pathlib import Path
from xxdeploy.convert.user_model.quarantine import inspect_model_file
from xxdeploy.errors import XXDeployError
codes = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        weights = Path(sys.argv[3]) if path.suffix == ".json" else None
        inspect_model_file(path, Path(sys.argv[2]), weights=weights)
    except XXDeployError as error:
        codes[path.name] = error.code
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
most = max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
loaded = [name for name in ("keras", "tensorflow", "h5py") if name in sys.modules]
print(json.dumps({"codes": codes, "most": most, "loaded": loaded}))
"""


def probed(folder: Path, tmp_path: Path) -> dict[str, Any]:
    """The codes of all files in ``folder``, the peak memory in KiB, and the modules that were loaded."""
    (tmp_path / "good.weights.h5").write_bytes(weights())
    command = [sys.executable, "-c", PROBE, str(folder), str(tmp_path), str(tmp_path / "good.weights.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


LISTS = '{"class_name": "Sequential", "config": {"a": [' + "[]," * (5 << 19) + "[]]}}"
EVIL = {"name": "l", "function": {"module": "os", "class_name": "function", "config": "system"}}
LAMBDA = model(layer("keras.layers", "Lambda", EVIL, "image"))


def archive_bombs(folder: Path) -> dict[str, str]:
    """Write archives of which each names, or holds, more than memory should; return their codes."""
    archive(folder / "zip.keras", data=bytes(64 << 20), compression=zipfile.ZIP_DEFLATED)
    archive(folder / "config.keras", b" " * (64 << 20), compression=zipfile.ZIP_DEFLATED)
    archive(folder / "lists.keras", LISTS)
    archive(folder / "shape.keras", data=weights(lambda file: file.create_dataset("huge", (1 << 40,), "f4")))
    zeros = np.zeros(1 << 23, "f4")
    packed = weights(lambda file: file.create_dataset("huge", data=zeros, compression="gzip"))
    archive(folder / "gzip.keras", data=packed)
    return dict.fromkeys((path.name for path in folder.iterdir()), "unsafe-model")


def hdf5_bombs(folder: Path) -> dict[str, str]:
    """Write the same in HDF5, files of a terabyte without content, and code; return their codes."""
    legacy(folder / "text.h5", b" " * (64 << 20))
    legacy(folder / "tail.h5", LISTS)
    (folder / "sparse.h5").touch()
    for name in ("sparse.h5", "tail.h5"):
        os.truncate(folder / name, 1 << 40)
    archive(folder / "lambda.keras", LAMBDA)
    archive(folder / "renamed.h5", LAMBDA)
    unsafe = dict.fromkeys(("text.h5", "tail.h5"), "unsafe-model")
    return {**unsafe, "sparse.h5": "not-a-model", "lambda.keras": "lambda-layer", "renamed.h5": "lambda-layer"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory in KiB as Linux counts it")
@pytest.mark.parametrize("write", [archive_bombs, hdf5_bombs])
def test_a_folder_of_bombs_takes_little_memory_and_no_keras(
    write: Callable[[Path], dict[str, str]], tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    codes = write(folder)
    said = probed(folder, tmp_path)
    assert said["codes"] == codes
    assert said["most"] < 1 << 20  # KiB
    assert said["loaded"] == []


def lambda_layer(code: bytes) -> dict[str, Any]:
    text = base64.b64encode(code).decode()
    return layer("keras.layers", "Lambda", {"name": "l", "function": [text, None, None], "arguments": {}}, "image")


DOUBLED = b"".join(b"\xa9\x02" + (b"r" + struct.pack("<I", index)) * 2 for index in range(60))
BYTECODE = {
    "deep": b"\xe3" + struct.pack("<5I", 1, 0, 0, 1, 3) + b"s\0\0\0\0" + b")\x01" * 30_000,
    "doubled": b"\xe3" + struct.pack("<5I", 1, 0, 0, 1, 3) + b"s\0\0\0\0)\x3d\xa9\x02NN" + DOUBLED,
    "text": b"\xe3" + struct.pack("<5I", 1, 0, 0, 1, 3) + b"s\xff\xff\xff\x7f",
    "runs": marshal.dumps((lambda x: exec("import os; os.abort()")).__code__),  # noqa: ARG005
}
"""Marshalled functions of Lambda layers that would fill the memory, take for ever, or run."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory in KiB as Linux counts it")
def test_bombs_in_the_forms_of_keras_1_and_2(tmp_path: Path) -> None:
    """Renamed HDF5, lists of layers, architectures with weights, and the bytecode of Lambda layers."""
    folder = tmp_path / "files"
    folder.mkdir()
    wanted = {}
    for name, function in BYTECODE.items():
        path = legacy(folder / f"{name}.h5", model(lambda_layer(function)))
        if name == "doubled":
            path.unlink()
            path = path.with_suffix(".json")
            path.write_text(json.dumps(model(lambda_layer(function))))
        wanted[path.name] = "lambda-layer"
    links: dict[str, Callable[[Any], object]] = {
        "external": lambda file: file.__setitem__("model_weights/more", h5py.ExternalLink("/etc/passwd", "/")),
        "loop": lambda file: file.__setitem__("model_weights/more", h5py.SoftLink("/model_weights/more")),
        "cycle": lambda file: file.__setitem__("model_weights/more", file["/"]),
        "huge": lambda file: file.create_dataset("model_weights/more", (1 << 40,), "f4"),
    }
    for name, write in links.items():  # HDF5 under the names of other formats
        legacy(tmp_path / "renamed.h5", write=write).rename(folder / f"{name}.model.keras")
        wanted[f"{name}.model.keras"] = "unsafe-model"
    first = {"class_name": "Convolution2D", "config": {"nb_filter": 3, "batch_input_shape": [None, 4, 4, 3]}}
    lists = {
        "many": ({"class_name": "Sequential", "config": [first] * 90_000}, "unsafe-model"),
        "models": (nested(first), "unsafe-model"),
        "import": ({"class_name": "Sequential", "config": [{**first, "module": "os"}]}, "unsafe-model"),
    }
    for name, (config, code) in lists.items():
        legacy(folder / f"{name}.list.h5", json.dumps(config))
        wanted[f"{name}.list.h5"] = code
    (folder / "nested.json").write_text('{"class_name": ' + "[" * 200_000)
    wanted["nested.json"] = "damaged-model"
    said = probed(folder, tmp_path)
    assert said["codes"] == wanted
    assert said["most"] < 1 << 20  # KiB
    assert said["loaded"] == []


def nested(first: Any) -> Any:
    """Sequential models of Keras 1, each the only layer of the next."""
    for _ in range(100):
        first = {"class_name": "Sequential", "config": [first]}
    return first
