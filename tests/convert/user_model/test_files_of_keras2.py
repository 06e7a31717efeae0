"""Files of Keras 1 and 2 give the answers of Keras 2 (tf_keras, which is Keras 2 on today's TensorFlow)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras2_writer import operations
from lambda_sources import PAIRS, SOURCES

from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.runtime import load
from xxdeploy.runtime.answers import reading_from

pytest.importorskip("tf_keras", reason="tf-keras, the judge of old files, is not installed (it comes with [dev])")
WRITER = Path(__file__).resolve().parents[2] / "support" / "keras2_writer.py"
OF_OTHER_LAYOUTS = ("cudnn.h5", "cudnn.keras", "keras-1-recurrent.h5")
REFUSED = {"matmul", "add_n"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("keras2")
    done = subprocess.run([sys.executable, str(WRITER), str(place)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return place


def difference(path: Path, expected: Path, weights: Path | None = None) -> float:
    answers = np.load(expected)
    model = load_model_file(path, weights=weights).model
    return float(np.abs(np.asarray(model(answers["x"], training=False)) - answers["y"]).max())


@pytest.mark.parametrize(
    "name",
    ["tf-2.1.h5", "keras-2.2.2.h5", "keras-1.2.h5", "tf-2.15.keras", "tf-2.12.keras", "tf-2.12-windows.keras"],
)
def test_the_answers_are_those_of_keras_2(folder: Path, name: str) -> None:
    assert difference(folder / name, folder / "sequential.npz") < 1e-6


@pytest.mark.parametrize("name", ["hdf5.keras", "hdf5.model"])
def test_the_content_decides_and_a_note_says_so(folder: Path, name: str) -> None:
    assert difference(folder / name, folder / "sequential.npz") < 1e-6
    assert load_model_file(folder / name).notes == (f"{name} is an HDF5 file, and was read as one",)


def test_an_architecture_with_its_weights(folder: Path) -> None:
    weights = folder / "architecture-weights.h5"
    assert difference(folder / "architecture.json", folder / "sequential.npz", weights) < 1e-6
    for path, code in ((folder / "architecture.json", "weights-missing"), (weights, "weights-only")):
        with pytest.raises(UsageError) as caught:
            load_model_file(path)
        assert caught.value.code == code
        assert "--weights" in str(caught.value.hint)
    with pytest.raises(UsageError) as caught:
        load_model_file(folder / "architecture.json", weights=folder / "tf-2.15.keras")
    assert caught.value.code == "not-weights"


@pytest.mark.parametrize("name", sorted(operations().keys() - REFUSED))
def test_operations_of_tensorflow(folder: Path, name: str) -> None:
    assert difference(folder / f"op-{name}.h5", folder / f"op-{name}.npz") < 1e-5


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_operation_without_a_rule_is_named(folder: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_model_file(folder / f"op-{name}.h5")
    assert caught.value.code == "old-operation"
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["lambdas.h5", "lambdas.keras"])
def test_lambda_layers_of_known_forms(folder: Path, name: str) -> None:
    assert difference(folder / name, folder / "lambdas.npz") < 1e-5
    assert len(load_model_file(folder / name).notes) == len(SOURCES) + len(PAIRS)


@pytest.mark.parametrize("name", ["recurrent.h5", "recurrent.keras", "old-gru.h5", *OF_OTHER_LAYOUTS])
def test_recurrent_layers_of_keras_2(folder: Path, name: str) -> None:
    assert difference(folder / name, folder / f"{Path(name).stem}.npz") < 1e-6


def test_layers_of_cudnn_are_said_to_be_others_and_their_weights_fit_these(folder: Path) -> None:
    before = sorted(folder.iterdir())
    for name in ("cudnn.h5", "cudnn.keras"):
        said = [note for note in load_model_file(folder / name).notes if "CuDNN" in note]
        assert len(said) == 5
        assert "gru0 (CuDNNGRU) is exported as GRU, which computes the same" in said
    assert difference(folder / "lstm.json", folder / "cudnn.npz", folder / "cudnn-weights.h5") < 1e-6
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_the_captcha_network_of_the_keras_examples_reads(folder: Path, suffix: str, tmp_path: Path) -> None:
    file, stored = folder / f"image-ocr{suffix}", np.load(folder / "image-ocr.npz")
    with pytest.raises(UsageError) as caught:
        load_model_file(file)
    assert "--output-layer softmax" in caught.value.hint
    (tmp_path / "characters.txt").write_text("a\nb\nc\n")
    asked = {"task": "sequence", "labels": tmp_path / "characters.txt", "ctc_blank": "last", "transpose": True}
    options = ExportOptions.of("fp32", output_layer="softmax", preprocess="0..1", **asked)
    bundle = export(file, options, tmp_path / "bundle").bundle
    expected = [reading_from(steps, ("a", "b", "c", ""), 3).text for steps in stored["y"]]
    assert len(set(expected)) == len(expected)
    with load(bundle) as runtime:
        assert [runtime.read(pixels.T[0]).text for pixels in stored["pixels"]] == expected
