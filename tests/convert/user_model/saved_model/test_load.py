"""A SavedModel becomes a Keras model that gives the answers of its signature, also as ONNX and in float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_models import SIZE, answers, changed, functions_with, write_function, write_module

from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.prepare import prepare_model
from xxdeploy.convert.user_model.saved_model.load import load_saved_model
from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.passes.optimize import optimize

WRITER = Path(__file__).resolve().parents[3] / "support" / "saved_model_writer.py"


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_module(tmp_path_factory.mktemp("module") / "net")


@pytest.fixture(scope="module")
def keras2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tf_keras", reason="tf-keras, the writer of old folders, is not installed (see [dev])")
    place = tmp_path_factory.mktemp("keras2")
    done = subprocess.run([sys.executable, str(WRITER), str(place)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return place


def pictures(count: int = 3, size: int = SIZE, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def close(given: Any, expected: Any) -> None:
    """TensorFlow fuses operations of a whole function, which rounds otherwise."""
    np.testing.assert_allclose(given, expected, atol=1e-6, rtol=1e-5)


def check_forms(model: Any, x: Any) -> list[str]:
    """The ONNX graph and the float64 run give the answers of the model; return the operators of the graph."""
    prepared = prepare_model(model)
    names = [output.name for output in prepared.outputs]
    runner = KerasRunner(prepared.model, outputs=names)
    graph = optimize(onnx_from_keras(prepared.model, outputs=names))[0]
    expected, exact = runner.run_all(x), runner.exact([x])
    given = open_session(graph, name="onnx", exact=True).run_all(x)
    for name in names:
        largest = max(1.0, float(np.abs(expected[name]).max()))
        assert np.abs(given[name] - expected[name]).max() < 1e-5 * largest, name
        assert np.abs(exact[name] - expected[name]).max() < 1e-5 * largest, name
        assert exact[name].dtype == np.float64
    return [node.op_type for node in graph.proto().graph.node]


def test_the_answers_of_a_module(module: Path) -> None:
    loaded, x = load_model_file(module), pictures()
    close(np.asarray(loaded.model(x)), answers(module, x)["classes"])
    assert loaded.notes == ()
    assert [layer.name for layer in loaded.model.layers][:3] == ["picture", "truediv", "conv"]
    check_forms(loaded.model, x)
    prepared = prepare_model(loaded.model)
    assert prepared.classes == 4
    assert prepared.described.scaling == ("truediv",)


def test_another_signature_and_an_output_of_integers(module: Path) -> None:
    loaded = load_saved_model(module, signature="embedding")
    assert loaded.notes == ("the output largest is left out: its type is int64, not float",)
    x = pictures()
    close(np.asarray(loaded.model(x)), answers(module, x, "embedding")["embedding"])
    assert prepare_model(loaded.model).outputs[0].classes is None


def test_a_picture_of_bytes_and_of_any_size(tmp_path: Path) -> None:
    folder = write_module(tmp_path / "net", size=None, dtype="uint8")
    with pytest.raises(UsageError) as caught:
        load_model_file(folder)
    assert caught.value.code == "input-size-missing"
    model = load_model_file(folder, input_size=20).model
    x = pictures(size=20)
    close(np.asarray(model(x)), answers(folder, x)["classes"])


def test_whole_numbers_are_pixels_although_nothing_scales_them(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8, name="picture")
    traced = tf.function(lambda picture: {"mean": tf.reduce_mean(tf.cast(picture, tf.float32), (1, 2))})
    tf.saved_model.save(module, str(tmp_path / "net"), signatures=traced.get_concrete_function(spec))
    model, x = load_model_file(tmp_path / "net").model, pictures()
    close(np.asarray(model(x)), answers(tmp_path / "net", x)["mean"])
    assert prepare_model(model).described.scaling == ("picture_of_whole_numbers",)
    check_forms(model, x)


def test_constants_and_outputs_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    folder = write_function(tmp_path / "huge", lambda x: x[:, :1, :1] + tf.fill((1, 40_000, 40_000, 3), 1.0))
    with pytest.raises(ConversionError) as caught:
        load_model_file(folder)
    assert caught.value.code == "activations-too-large"


def test_constants_are_not_computed_to_infer_a_shape(tmp_path: Path) -> None:
    """TensorFlow would fill a tensor of eight gigabytes to learn one size from it."""
    import tensorflow as tf

    def reshaped(x: Any) -> Any:
        return tf.reshape(x, tf.concat([[-1], tf.fill([7], 36)[:1]], 0))

    def enlarge(graph: Any) -> None:
        for function in functions_with(graph, "Fill"):
            for node in function.node_def:
                if node.op == "Const" and list(node.attr["value"].tensor.int_val) == [7]:
                    node.attr["value"].tensor.int_val[0] = 2_000_000_000

    folder = changed(write_function(tmp_path / "small", reshaped), tmp_path / "huge", enlarge)
    assert load_model_file(tmp_path / "small").model.output_shape == (None, 36)
    with pytest.raises(ConversionError) as caught:
        load_model_file(folder)
    assert caught.value.code == "activations-too-large"


def test_a_batch_of_one_becomes_free_if_the_graph_allows_it(tmp_path: Path) -> None:
    import tensorflow as tf

    loaded = load_model_file(write_module(tmp_path / "free", batch=1))
    assert loaded.model.input_shape[0] is None
    assert "batches of 1" in loaded.notes[0]
    shape = (1, SIZE, SIZE, 3)
    fixed = write_function(tmp_path / "fixed", lambda x: tf.reshape(tf.reduce_mean(x, 3), (1, -1)), shape)
    with pytest.raises(UsageError) as caught:
        load_model_file(fixed)
    assert caught.value.code == "saved-model-batch"


def test_statistics_of_the_batch_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    def normalized(x: Any) -> Any:
        return tf.compat.v1.nn.fused_batch_norm(x, tf.ones(3), tf.zeros(3), is_training=True)[0]

    with pytest.raises(UsageError) as caught:
        load_model_file(write_function(tmp_path / "training", normalized))
    assert caught.value.code == "saved-model-training"


def test_a_flipped_bit_in_the_values_is_found(tmp_path: Path) -> None:
    folder = write_module(tmp_path / "net")
    data = folder / "variables" / "variables.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[100] ^= 1
    data.write_bytes(raw)
    with pytest.raises(ConversionError) as caught:
        load_model_file(folder)
    assert caught.value.code == "damaged-model"


def test_options_of_files_are_refused(module: Path, tmp_path: Path) -> None:
    for options in ({"weights": tmp_path / "w.h5"}, {"custom_objects": ["a:b"]}, {"inference_mode": True}):
        with pytest.raises(UsageError) as caught:
            load_model_file(module, **options)
        assert caught.value.code == "saved-model-option"


def test_a_folder_that_keras_3_exports(tmp_path: Path) -> None:
    import keras
    from saved_model_writer import plain

    keras.utils.set_random_seed(1)
    model = plain(keras)
    model.export(str(tmp_path / "net"), verbose=False)
    loaded = load_model_file(tmp_path / "net")
    x = np.random.default_rng(0).uniform(0, 255, (3, 24, 20, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(loaded.model(x)), np.asarray(model(x, training=False)), atol=1e-6)
    names = [layer.name for layer in loaded.model.layers]
    assert {"conv1", "bn1", "relu1", "depthwise", "sum", "pool", "flat", "classes"} <= set(names)
    assert prepare_model(loaded.model, output_layer="relu1").outputs[0].classes is None
    check_forms(loaded.model, x)


@pytest.mark.parametrize("name", ["plain", "two-ends", "dilated", "resized", "normalized"])
def test_folders_that_keras_2_saved(keras2: Path, name: str) -> None:
    loaded, expected = load_model_file(keras2 / name), np.load(keras2 / f"{name}.npz")
    given = loaded.model(expected["x"], training=False)
    for index, output in enumerate(given if isinstance(given, (list, tuple)) else [given]):
        np.testing.assert_allclose(np.asarray(output), expected[f"y{index}"], atol=1e-6, rtol=1e-6)
    graph = check_forms(loaded.model, expected["x"])
    assert name != "normalized" or graph.count("Shape") <= 2, graph  # of the group norm; no layer computes shapes
