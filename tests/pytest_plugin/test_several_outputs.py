"""A bundle with several outputs (schema 2) under the checks: each output is looked at, and a fault behind it named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import pytest
from PIL import Image

from xxdeploy.errors import VerificationError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.pytest_plugin.subject import Subject, SubjectOptions

CHECKS = ("hashes", "records", "golden", "parity", "drift")
Made = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    import keras

    folder = tmp_path_factory.mktemp("several")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    kinds = layers.Dense(5, activation="softmax", name="kinds")(layers.GlobalAveragePooling2D(name="pool")(x))
    # Behind everything that the first output needs.
    maps = layers.Conv2D(6, 3, padding="same", activation="relu", name="maps")(x)
    keras.Model(image, {"where": maps, "what": kinds}).save(folder / "several.keras")
    images = folder / "images"
    images.mkdir()
    random = np.random.default_rng(5)
    for index in range(12):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(images / f"{index}.png")
    file = folder / "several.keras"
    plan: dict[str, Any] = {"preprocess": "tf", "input_size": 16}
    return {
        "model": str(file),
        "fp32": export(file, ExportOptions.of(**plan), folder / "fp32").bundle,
        "int8": export(file, ExportOptions.of("int8", calibration=images, **plan), folder / "int8").bundle,
    }


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_output_of_a_good_bundle_is_compared(made: Made, precision: str) -> None:
    subject = Subject(made[precision], SubjectOptions(model=made["model"], card=made[precision]))
    assert subject.manifest.output_names == ("kinds", "maps")
    facts = {check: getattr(subject, f"check_{check}")() for check in CHECKS}
    stages = {"onnx-fp32"} if precision == "fp32" else {"onnx-fp32", "onnx-int8 (model.onnx)"}
    assert set(facts["parity"]) >= stages | {f"maps of {stage}" for stage in stages}


def rewire(bundle: Path, weight: str) -> None:
    def change(proto: Any, arrays: dict[str, Any]) -> None:
        arrays[weight] = arrays[weight][::-1].copy()

    mutations.edit_graph(bundle, change)


@pytest.mark.parametrize(
    ("precision", "weight"), [("fp32", "maps/Conv/weight"), ("int8", "maps/Conv/weight_quantized")]
)
def test_a_fault_behind_the_second_output_alone(made: Made, precision: str, weight: str, tmp_path: Path) -> None:
    bundle = tmp_path / "broken"
    shutil.copytree(made[precision], bundle)
    rewire(bundle, weight)
    subject = Subject(bundle, SubjectOptions(model=made["model"]))
    with pytest.raises(VerificationError, match="largest error of maps") as golden:
        subject.check_golden()
    assert golden.value.code == "golden-mismatch"
    with pytest.raises(VerificationError, match="maps") as parity:
        subject.check_parity()
    assert parity.value.code in ("wrong-layer", "wrong-weight")


def test_drift_of_a_bundle_from_a_model_file(made: Made, tmp_path: Path) -> None:
    from xxdeploy.batch.cards import card_from_bundle, text_from_card
    from xxdeploy.batch.jobs import Job

    card = card_from_bundle(Job("several", made["model"], "int8", {}), made["int8"])
    card["parity"]["maps of onnx-int8"]["max_abs"] /= 100
    (tmp_path / "card.json").write_text(text_from_card(card))
    assert json.loads((tmp_path / "card.json").read_text())["weights"] == "its own"
    with pytest.raises(VerificationError, match="maps of onnx-int8: largest difference") as caught:
        Subject(made["int8"], SubjectOptions(card=tmp_path / "card.json")).check_drift()
    assert caught.value.code == "drift"
