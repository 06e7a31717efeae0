"""Facts and a verdict on every kind of file, with the errors of the export, and without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model_files import archive, layer, legacy, model, weights

from xxdeploy.convert.user_model.examine import examine_model_file
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.errors import XXDeployError


def image(*shape: int | None) -> dict[str, Any]:
    config = model()
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, *shape]
    return config


def architecture(folder: Path) -> Path:
    (folder / "model.json").write_text(json.dumps({**model(), "keras_version": "3.15.1"}))
    return folder / "model.json"


def test_files_that_export(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(weights())
    for path, form, other in (
        (archive(tmp_path / "a.keras"), "a .keras archive", None),
        (legacy(tmp_path / "a.h5"), "an HDF5 file", None),
        (architecture(tmp_path), "an architecture (JSON)", tmp_path / "w.h5"),
    ):
        told = examine_model_file(path, weights=other)
        assert told.problem is None
        assert (told.form, told.keras_version, told.name, told.layers) == (form, "3.15.1", "net", 2)
        assert (told.parameters, told.inputs, told.outputs) == (147, (("image", (None, 4, 4, 3)),), ("dense",))


LAMBDA = layer("keras.layers", "Lambda", {"name": "own", "function": "system"}, "image")
TRAINING = {**layer("keras.layers", "Dropout", {"name": "drop", "rate": 0.5}, "image")}
TRAINING["inbound_nodes"] = [{"args": TRAINING["inbound_nodes"][0]["args"], "kwargs": {"training": True}}]


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (model(LAMBDA), "lambda-layer"),
        (model(layer("mine", "Swish", {"name": "s"}, "image")), "custom-object"),
        (model(layer("keras.layers", "StringLookup", {"name": "s"}, "image")), "unsupported-layer"),
        (model(TRAINING), "training-mode"),
        (image(None, None, 3), "input-size-missing"),
        (image(3, 4, 4), "not-an-image"),
        (image(8000, 4, 3), "bad-input-size"),
        (image(None), "input-size-missing"),
    ],
)
def test_the_error_is_that_of_the_export(tmp_path: Path, config: Any, code: str) -> None:
    path = archive(tmp_path / "a.keras", config)
    told = examine_model_file(path)
    assert told.problem is not None
    assert told.problem.code == code
    assert (told.form, told.name) == ("a .keras archive", "net")
    if code in ("input-size-missing", "not-an-image", "bad-input-size"):  # the export says so once Keras built it
        return
    with pytest.raises(XXDeployError) as caught:
        load_model_file(path)
    assert (caught.value.message, caught.value.hint) == (told.problem.message, told.problem.hint)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.keras", b"", "not-a-model"),
        ("a.h5", b"\x1c\x00\x00\x00TFL3" + b"\0" * 64, "not-a-model"),
        ("a.keras", b"\x80\x04\x95", "not-a-model"),
        ("a.h5", b"\x08\x07\x12\x07pytorch", "not-a-model"),
        ("a.keras", b"PK\x03\x04" + b"\0" * 100, "damaged-model"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "damaged-model"),
        ("a.json", b"{", "damaged-model"),
        ("absent.h5", None, "no-model-file"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, name: str, content: bytes | None, code: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    told = examine_model_file(path)
    assert told.problem is not None
    assert told.problem.code == code
    assert told.problem.hint


def test_architectures_and_weights_alone(tmp_path: Path) -> None:
    (tmp_path / "w.h5").write_bytes(weights())
    alone = examine_model_file(tmp_path / "w.h5")
    assert (alone.form, alone.parameters) == ("an HDF5 file of weights", 147)
    assert alone.problem is not None
    assert alone.problem.code == "weights-only"
    alone = examine_model_file(architecture(tmp_path))
    assert (alone.form, alone.name, alone.layers) == ("an architecture (JSON)", "net", 2)
    assert alone.problem is not None
    assert alone.problem.code == "weights-missing"
    other = examine_model_file(archive(tmp_path / "a.keras"), weights=tmp_path / "w.h5")
    assert other.problem is not None
    assert other.problem.code == "not-an-architecture"


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    problem = examine_model_file(tmp_path).problem
    assert problem is not None
    assert problem.code


def test_neither_keras_nor_tensorflow_is_imported(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras")
    code = (
        "import sys; from pathlib import Path; from xxdeploy.convert.user_model.examine import examine_model_file; "
        "print(examine_model_file(Path(sys.argv[1])).form, {'keras', 'tensorflow', 'tf2onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout == "a .keras archive set()\n", done.stderr
