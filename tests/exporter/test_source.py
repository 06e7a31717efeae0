"""A model of the user's own, from the file to the device."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.errors import EngineError, UsageError, VerificationError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.exporter.source import name_of, source_of
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network for 32 x 32 that scales its pixels itself, with random but fixed weights."""
    import keras

    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="photo")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(16, 3, padding="same", activation="relu", name="block")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, layers.Conv2D(16, 3, padding="same")(y)]))
    model = keras.Model(image, layers.Dense(7, activation="softmax", name="kinds")(x), name="residual")
    path = tmp_path_factory.mktemp("own") / "My Residual (v2).keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, numbers = tmp_path_factory.mktemp("images"), np.random.default_rng(5)
    for index in range(40):
        low, high = sorted(numbers.integers(0, 256, 2).tolist())
        picture = numbers.integers(low, high + 1, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / f"{index}.png")
    return root


def test_a_file_becomes_a_bundle(residual: Path, folder: Path, tmp_path: Path) -> None:
    import keras

    exported = export(residual, ExportOptions.of("int8", calibration=folder), tmp_path / "out")
    assert exported.task == "classification"
    assert any("scales pixels itself" in note for note in exported.notes)
    assert exported.parities[0].max_abs < 1e-5
    assert (
        exported.rows[2].runner == "onnx-int8"
    )  # not -arm, which comes first in the bundle and gives the same answers
    runtime = load(exported.bundle)
    assert runtime.manifest.name == "my-residual-v2-int8"
    assert runtime.manifest.source["model"] == residual.name
    assert runtime.manifest.picture.mode == "none"
    picture = np.asarray(Image.open(next(folder.iterdir())))
    model: Any = keras.models.load_model(residual)
    expected = model(picture[None].astype(np.float32)).numpy()
    assert runtime.probabilities(picture) == pytest.approx(expected, abs=0.05)
    assert runtime.probabilities(picture).shape == (1, 7)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_several_outputs_are_all_proved(precision: str, residual: Path, folder: Path, tmp_path: Path) -> None:
    import keras

    whole: Any = keras.models.load_model(residual)
    block = whole.get_layer("block").output
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(block)
    model = keras.Model(whole.input, {"all": embedding, "kinds": whole.output, "maps": block}, name="several")
    model.save(tmp_path / "several.keras")

    images = None if precision == "fp32" else folder
    exported = export(tmp_path / "several.keras", ExportOptions.of(precision, calibration=images), tmp_path / "out")
    stages = {parity.candidate for parity in exported.parities}
    stage = f"onnx-{precision}"
    assert stages >= {stage, f"embedding of {stage}", f"block of {stage}", f"block of {stage}, unoptimized"}
    manifest = check_bundle(exported.bundle)
    assert (manifest.schema, manifest.output_names) == (5, ("kinds", "embedding", "block"))
    assert [(output.task, output.classes) for output in manifest.more_outputs] == [("features", 0)] * 2
    kinds = {variant.inputs[0].dtype for variant in manifest.variants}
    assert kinds == ({"float32", "uint8"} if precision == "int8" else {"float32"})
    assert [output.shape[0] for output in manifest.variants[0].outputs] == [None] * 3

    runtime = load(exported.bundle, selftest=True)
    picture = np.asarray(Image.open(next(folder.iterdir())))
    outputs = runtime.run([picture, picture])
    expected = model(picture[None].astype(np.float32))
    near = {"fp32": 1e-5, "fp16": 5e-3, "int8": 0.1}[precision]
    for name, key in (("kinds", "kinds"), ("embedding", "all"), ("block", "maps")):
        reference = expected[key].numpy()
        assert outputs[name].shape == (2, *reference.shape[1:])
        assert outputs[name][:1] == pytest.approx(reference, abs=near * float(np.abs(reference).max()))
    assert runtime.probabilities(picture) == pytest.approx(outputs["kinds"][:1], abs=1e-6)
    assert runtime.predict(picture)[0].index == outputs["kinds"][0].argmax()


def test_the_self_test_looks_at_every_output(residual: Path, tmp_path: Path) -> None:
    import keras

    whole: Any = keras.models.load_model(residual)
    model = keras.Model(whole.input, [whole.output, whole.get_layer("block").output], name="several")
    model.save(tmp_path / "several.keras")
    runtime = load(export(tmp_path / "several.keras", ExportOptions(), tmp_path / "out").bundle)

    class Off:
        name = "off"

        def run(self, batch: np.ndarray) -> np.ndarray:
            return runtime.session.run(batch)

        def run_all(self, batch: np.ndarray) -> dict[str, np.ndarray]:
            outputs = runtime.session.run_all(batch)
            return {**outputs, "block": outputs["block"] + 1}

    with pytest.raises(VerificationError, match="largest error of block") as caught:
        load(runtime.root, session=Off(), selftest=True)
    assert caught.value.code == "golden-mismatch"

    class One:
        name, run = "one", Off.run

    with pytest.raises(EngineError, match="has no output kinds, block") as refused:
        load(runtime.root, session=One(), selftest=True)
    assert refused.value.code == "engine-output"


def test_an_embedding_is_told_from_scores_by_its_task(residual: Path, tmp_path: Path) -> None:
    import keras

    whole: Any = keras.models.load_model(residual)
    inner = whole.get_layer("kinds").input
    linear = keras.Model(whole.input, keras.layers.Dense(8, name="embedding")(inner), name="embedder")
    linear.save(tmp_path / "embedder.keras")
    scores = export(tmp_path / "embedder.keras", ExportOptions(), tmp_path / "scores")
    assert scores.task == "classification"
    assert any("a Softmax was added" in note and "--task features" in note for note in scores.notes)
    exported = export(tmp_path / "embedder.keras", ExportOptions.of(task="features"), tmp_path / "features")
    assert (exported.task, exported.notes) == ("features", scores.notes[1:])
    picture = np.full((32, 32, 3), 77, np.uint8)
    expected = linear(picture[None].astype(np.float32)).numpy()
    runtime = load(exported.bundle)
    assert runtime.features(picture) == pytest.approx(expected, abs=1e-4)
    assert runtime.manifest.source["task"] == "features"


def test_an_engine_has_one_output(residual: Path, tmp_path: Path) -> None:
    import keras

    whole: Any = keras.models.load_model(residual)
    keras.Model(whole.input, [whole.output, whole.get_layer("block").output]).save(tmp_path / "several.keras")
    options = ExportOptions.of(target="tensorrt-rtx", gpu="sm86")
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "several.keras", options, tmp_path / "out")
    assert caught.value.code == "several-outputs"


def test_an_inner_layer_is_features(residual: Path, tmp_path: Path) -> None:
    exported = export(residual, ExportOptions.of(output_layer="block"), tmp_path / "out")
    assert exported.task == "features"
    assert load(exported.bundle).features(np.zeros((32, 32, 3), np.uint8)).shape[0] == 1


@pytest.mark.parametrize(
    "options",
    [
        ExportOptions.of(classes=5),
        ExportOptions.of(no_top=True),
        ExportOptions.of(weights="none"),
    ],
)
def test_what_builds_a_catalog_network_says_nothing_about_a_file(options: ExportOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export(tmp_path / "model.keras", options, tmp_path / "out")
    assert caught.value.code == "catalog-only"


@pytest.mark.parametrize(
    "options", [ExportOptions.of(weights="none", output_layer="x"), ExportOptions.of(weights="none", task="features")]
)
def test_a_catalog_network_has_no_file_options(options: ExportOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        export(find("lenet"), options, tmp_path / "out")
    assert caught.value.code == "model-file-only"


def test_names() -> None:
    assert name_of(Path("a/Björn's model.v2.h5")) == "bj-rn-s-model.v2"
    assert name_of(Path("__.keras")) == "model"
    assert name_of(find("MobileNet-V2")) == "mobilenetv2"


@pytest.mark.parametrize("file", ["saved_model.pb", "manifest.json"])
def test_a_folder_called_like_a_network_hides_it_only_with_a_model(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lenet").mkdir()
    Path("pictures").mkdir()
    assert source_of("lenet") is find("lenet")
    assert (source_of("./lenet"), source_of("pictures")) == (Path("lenet"), Path("pictures"))
    Path("lenet", file).touch()
    assert source_of("lenet") == Path("lenet")


def test_weights_with_their_architecture(tmp_path: Path, folder: Path) -> None:
    """Two layers of one shape: in the file they stand in another order, and their names decide."""
    import keras

    keras.utils.set_random_seed(3)

    def built(*names: str) -> Any:
        convolutions = [keras.layers.Conv2D(3, 1, name=name) for name in names]
        start, end = keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()
        return keras.Sequential([start, *convolutions, end], name="two")

    model, other = built("first", "second"), built("second", "first")
    for layer in other.layers[:2]:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    (tmp_path / "model.json").write_text(model.to_json())
    weights = tmp_path / "trained.h5"
    legacy(weights, other)
    with pytest.raises(UsageError) as caught:
        export(weights, ExportOptions.of(preprocess="none"), tmp_path / "out")
    assert caught.value.code == "weights-only"
    assert "--architecture MODEL.json" in caught.value.hint
    given: dict[str, Any] = {"preprocess": "none", "architecture": tmp_path / "model.json"}
    with pytest.raises(UsageError, match="names others"):
        export(weights, ExportOptions.of(**given, weights="more.h5"), tmp_path / "out")
    result = export(weights, ExportOptions.of(**given), tmp_path / "out")
    assert result.bundle.name == "out"
    source = check_bundle(result.bundle).source
    assert (source["model"], source["weights"]) == ("model.json", "trained.h5")
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    expected = np.asarray(model(image.astype(np.float32)))
    assert load(result.bundle).features(image[0]) == pytest.approx(expected, abs=1e-3)


def legacy(path: Path, model: Any) -> None:
    """Write weights by layer, as Keras 2 did."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group, names = file.create_group(layer.name), []
            for index, weight in enumerate(layer.get_weights()):
                group[f"{layer.name}/{index}:0"] = weight
                names.append(f"{layer.name}/{index}:0".encode())
            group.attrs["weight_names"] = names


def test_options_for_pictures_are_refused_where_the_model_reads_numbers(tmp_path: Path) -> None:
    import keras

    numbers = keras.Input((4, 4, 4), name="bands")
    model = keras.Model(numbers, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(numbers)), name="spectral")
    path = tmp_path / "spectral.keras"
    model.save(path)
    asked: dict[str, Any] = {"resize": "crop", "background": "white", "scale_twice": True}
    with pytest.raises(UsageError, match="--resize, --background and --scale-twice apply to pictures only") as caught:
        export(path, ExportOptions.of(**asked), tmp_path / "out")
    assert caught.value.code == "no-picture"
    with pytest.raises(UsageError, match=r"bands \(4, 4, 4\)") as caught:
        export(path, ExportOptions.of(preprocess="tf"), tmp_path / "out")
    assert caught.value.code == "preprocess-names"
    assert export(path, ExportOptions.of(), tmp_path / "out").parities[0].max_abs < 1e-5
