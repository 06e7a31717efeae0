"""A siamese network and a picture with numbers, trained here, from Keras to the device in INT8."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.diagnose.verify_bundle import verify_bundle
from xxdeploy.errors import UsageError
from xxdeploy.exporter import ExportOptions, ExportResult, export
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.onnxmodel.session import open_session
from xxdeploy.pytest_plugin.subject import Subject, SubjectOptions
from xxdeploy.runtime import load
from xxdeploy.runtime.bench import bench_many
from xxdeploy.runtime.inputs import random_samples
from xxdeploy.runtime.tune import Engines, tune_opened

SIDE, TRAINED, CALIBRATED, EVALUATED = 16, 800, 64, 200
PROMISED = {"pair": (3.0, 95.0), "person": (1.0, 98.0)}
"""Points of top-1 and percent of agreement. The pair's network squares differences of eight numbers."""
COLORS = np.array([[220, 60, 50], [60, 200, 70], [70, 90, 230], [230, 220, 60]])


@dataclass(frozen=True)
class Exported:
    """A trained model, its tables, and its INT8 bundle."""

    model: Any
    file: Path
    train: Path
    val: Path
    result: ExportResult


def picture(random: np.random.Generator, color: int) -> np.ndarray:
    """A disc of a color on a gray ground, with noise."""
    y, x, radius = *random.integers(4, 12, 2), random.integers(3, 6)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE, 3), float(random.integers(20, 90)))
    image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = COLORS[color]
    return (image + random.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def pairs(random: np.random.Generator, count: int) -> tuple[list[Any], list[Any], np.ndarray]:
    """Two pictures of one color, or of two."""
    first = random.integers(0, 4, count)
    same = random.integers(0, 2, count)
    second = (first + (1 - same) * random.integers(1, 4, count)) % 4
    return [picture(random, color) for color in first], [picture(random, color) for color in second], same


def people(random: np.random.Generator, count: int) -> tuple[list[Any], list[Any], np.ndarray]:
    """A picture of one of two colors and three numbers, of which the first counts."""
    colors, old = random.integers(0, 2, count), random.integers(0, 2, count)
    numbers = [np.array([70.0 if each else 20.0, 0.5, -3.0]) + random.normal(0, (8, 1, 2)) for each in old]
    return [picture(random, color) for color in colors], numbers, 2 * colors + old


def siamese() -> Any:
    keras, layers = load_keras(), load_keras().layers
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(12, 3, strides=2, use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(16, 3, strides=2, activation="relu")(x))
    backbone = keras.Model(image, layers.Dense(8)(x), name="backbone")
    left, right = keras.Input((SIDE, SIDE, 3), name="left"), keras.Input((SIDE, SIDE, 3), name="right")
    difference = layers.Subtract()([backbone(left), backbone(right)])
    squares = layers.Multiply()([difference, difference])
    return keras.Model([left, right], layers.Dense(2, activation="softmax", name="same")(squares), name="siamese")


def photo_and_numbers() -> Any:
    keras, layers = load_keras(), load_keras().layers
    photo, meta = keras.Input((SIDE, SIDE, 3), name="photo"), keras.Input((3,), name="meta")
    x = layers.Conv2D(12, 3, strides=2, activation="relu")(photo)
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(16, 3, strides=2, activation="relu")(x))
    y = layers.Dense(8, activation="relu")(layers.Normalization(mean=[45.0, 0.5, -3.0], variance=[700.0, 1, 4])(meta))
    return keras.Model([photo, meta], layers.Dense(4, activation="softmax")(layers.Concatenate()([x, y])))


def write(folder: Path, columns: tuple[str, str], data: tuple[list[Any], list[Any], np.ndarray]) -> Path:
    folder.mkdir()
    rows: list[tuple[Any, ...]] = [(*columns, "label")]
    for index, (*values, label) in enumerate(zip(*data, strict=True)):
        cells = []
        for name, value in zip(columns, values, strict=True):
            if value.ndim == 3:
                Image.fromarray(value).save(folder / f"{index}-{name}.png")
            cells.append(f"{index}-{name}.png" if value.ndim == 3 else " ".join(map(str, value)))
        rows.append((*cells, int(label)))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "table.csv"


def made(
    root: Path,
    model: Any,
    columns: tuple[str, str],
    draw: Callable[[np.random.Generator, int], tuple[list[Any], list[Any], np.ndarray]],
) -> Exported:
    """Train, write tables, and export with the promises of ``PROMISED``."""
    keras = load_keras()
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    *values, labels = draw(random, TRAINED)
    scaled = [np.array(v, np.float32) / 127.5 - 1 if v[0].ndim == 3 else np.array(v, np.float32) for v in values]
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(scaled, labels, epochs=12, batch_size=32, verbose=0)
    model.save(root / "own.keras")
    train, val = (
        write(root / name, columns, draw(random, n)) for name, n in (("train", CALIBRATED), ("val", EVALUATED))
    )
    drop, agreement = PROMISED["pair" if "left" in columns else "person"]
    options = ExportOptions.of(
        "int8",
        preprocess="tf",
        calibration=train,
        evaluation=val,
        max_drop=drop,
        min_agreement=agreement,
        pictures=True,
    )
    return Exported(model, root / "own.keras", train, val, export(root / "own.keras", options, root / "out"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return made(tmp_path_factory.mktemp("pair"), siamese(), ("left", "right"), pairs)


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return made(tmp_path_factory.mktemp("person"), photo_and_numbers(), ("photo", "meta"), people)


def test_both_keep_their_promises(pair: Exported, person: Exported) -> None:
    for exported in (pair, person):
        rows = {row.runner: row for row in exported.result.rows}
        assert rows["keras"].top1 is not None
        assert rows["keras"].top1 > 0.85
        assert exported.result.parities[0].max_abs < 1e-5
        assert all(line.startswith("PASS") for line in exported.result.conclusions.promises)
        assert len(exported.result.conclusions.promises) >= 2


def test_shared_weights_are_stored_once_in_int8(pair: Exported) -> None:
    for variant in load(pair.result.bundle).manifest.variants:
        arrays = OnnxModel((pair.result.bundle / variant.model).read_bytes()).split()[1]
        assert sum(array.shape[-2:] == (3, 3) for array in arrays.values()) == 2


def test_the_plugin_compares_each_stage_with_keras(person: Exported) -> None:
    options = SubjectOptions(evaluation=person.val, model=str(person.file))
    assert "onnx-fp32" in Subject(person.result.bundle, options).check_parity()
    with pytest.raises(pytest.skip.Exception, match="--xxdeploy-eval"):
        Subject(person.result.bundle, SubjectOptions(model=str(person.file))).check_parity()


def test_weights_that_layers_share_are_loaded_for_exact_sums(pair: Exported) -> None:
    runtime = load(pair.result.bundle)
    model = OnnxModel((pair.result.bundle / runtime.variant.model).read_bytes())
    batch = runtime.manifest.form.batch(random_samples(runtime.manifest.form, 2))
    for optimize in (True, False):
        answers = open_session(model, name="exact", exact=True, optimize=optimize).run(batch)
        assert np.abs(answers - runtime.session.run(batch)).max() < 0.1


def test_the_device_answers_as_keras_does(pair: Exported) -> None:
    random = np.random.default_rng(7)
    left, right, _ = pairs(random, 9)
    with load(pair.result.bundle, selftest=True) as runtime:
        samples = [{"left": a, "right": b} for a, b in zip(left, right, strict=True)]
        answers = runtime.probabilities(samples)
        expected = pair.model([np.array(each, np.float32) / 127.5 - 1 for each in (left, right)], training=False)
        assert np.abs(answers - expected).max() < 0.2
        one = runtime.run({"right": right[0], "left": left[0]})["probabilities"]
        assert np.array_equal(one, runtime.run(left[0], right[0])["probabilities"])
        assert runtime.predict(samples[0])[0].index == int(answers[0].argmax())
        assert np.array_equal(runtime.probabilities((left[0], right[0])), one)


def test_numbers_move_the_answer(person: Exported) -> None:
    with load(person.result.bundle) as runtime:
        photo = picture(np.random.default_rng(3), 0)
        young, old = (runtime.probabilities({"photo": photo, "meta": [age, 0.5, -3.0]}) for age in (20, 70))
        assert [int(young.argmax()), int(old.argmax())] == [0, 1]
        with pytest.raises(UsageError) as caught:
            runtime.run({"photo": photo, "meta": [1, 2]})
        assert caught.value.code == "array-shape"
        with pytest.raises(UsageError) as caught:
            runtime.run(photo, [20, 0.5, -3.0], photo)
        assert caught.value.code == "wrong-inputs"


def test_verify_bench_and_tune(pair: Exported, person: Exported) -> None:
    for exported in (pair, person):
        verified = verify_bundle(exported.result.bundle, evaluation=exported.val)
        assert verified.rows[0].top1 == {row.runner: row for row in exported.result.rows}["onnx-int8"].top1
    runtime = load(person.result.bundle)
    assert bench_many([person.result.bundle], rounds=1, start=lambda *_: (0.0, None))[0].rounds == 1
    tuned = tune_opened(runtime.root, runtime.manifest, budget=0.5, engines=Engines.of_this_device())
    assert tuned.best.milliseconds


def test_a_step_for_one_picture_refuses_by_name(pair: Exported, tmp_path: Path) -> None:
    for evaluation, code in ((pair.val, "auto-preprocess"), (pair.val.parent, "not-one-picture")):
        with pytest.raises(UsageError) as caught:
            export(pair.file, ExportOptions.of(preprocess="auto", evaluation=evaluation), tmp_path / "out")
        assert caught.value.code == code
    with pytest.raises(UsageError) as caught:
        export(pair.file, ExportOptions.of("int8", preprocess="tf", calibration=pair.val.parent), tmp_path / "out")
    assert caught.value.code == "table-needed"
    with pytest.raises(UsageError) as caught:
        export(pair.file, ExportOptions.of("int8", preprocess="tf"), tmp_path / "out")
    assert (caught.value.code, "left, right" in caught.value.hint) == ("calibration-missing", True)
