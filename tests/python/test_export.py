"""``xxdeploy.export`` as a program or a notebook calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xxdeploy
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.exporter import ExportResult
from xxdeploy.runtime import load

RANDOM = np.random.default_rng(2)
Y = RANDOM.integers(0, 3, 90)
X = (RANDOM.integers(0, 90, (90, 12, 12, 3)) + 80 * np.eye(3)[Y][:, None, None]).astype(np.uint8)
"""Pictures that are red, green or blue."""


@pytest.fixture(scope="module")
def model() -> Any:
    """A classifier by the mean color, right on every picture."""
    import keras

    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(3, 1, name="mix"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax", name="kinds"),
        ],
        name="Farbe von heute",
    )
    made.get_layer("mix").set_weights([np.eye(3, dtype=np.float32)[None, None], np.zeros(3, np.float32)])
    made.get_layer("kinds").set_weights([20 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    return made


@pytest.fixture(scope="module")
def exported(model: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    import tensorflow as tf

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        result = xxdeploy.export(
            model,
            int8=True,
            calibration=tf.data.Dataset.from_tensor_slices(X[:50].astype(np.float32)).batch(8),
            eval=(X[50:], Y[50:]),
            labels=["red", "green", "blue"],
            max_drop=1,
            quiet=True,
        )
        assert result.bundle == Path("exports/farbe-von-heute-int8")
        from dataclasses import replace

        return replace(result, bundle=result.bundle.absolute())


def test_the_bundle_answers_as_the_model(exported: ExportResult, model: Any) -> None:
    runtime = load(exported.bundle, selftest=True)
    assert runtime.labels == ("red", "green", "blue")
    answers = runtime.probabilities(list(X[50:60]))
    assert np.allclose(answers, np.asarray(model(X[50:60].astype(np.float32))), atol=0.02)
    assert [runtime.predict(picture)[0].index for picture in X[50:60]] == Y[50:60].tolist()


def test_the_result_has_rows_verdicts_and_notes(exported: ExportResult) -> None:
    assert [row.runner for row in exported.rows][:2] == ["keras", "onnx-fp32"]
    assert exported.rows[0].top1 == 1.0
    assert all(line.startswith("PASS max-drop 1 ") for line in exported.verdicts)
    assert exported.verdicts
    assert repr(exported).startswith(f"bundle {exported.bundle}\n")


def test_digests_hold_for_pictures_in_memory(exported: ExportResult, model: Any, tmp_path: Path) -> None:
    """The same pictures in another form and under other names of variables have the digest of before."""
    manifest = load(exported.bundle).manifest
    again = xxdeploy.export(
        model, tmp_path / "b", int8=True, calibration=iter(X[:50]), eval=list(zip(X[50:], Y[50:], strict=True)),
        labels=["red", "green", "blue"], on_progress=lambda _: None,
    )  # fmt: skip
    other = load(again.bundle).manifest
    assert other.evidence["calibration"] == manifest.evidence["calibration"]
    assert other.evidence["accuracy"] == manifest.evidence["accuracy"]
    assert [entry for entry in other.files if entry.path == "model.onnx"] == [
        entry for entry in manifest.files if entry.path == "model.onnx"
    ]


def test_the_report_and_the_manifest_say_where_the_model_came_from(exported: ExportResult, model: Any) -> None:
    source = load(exported.bundle).manifest.source
    assert source["in_memory"] is True
    assert source["model"] == model.name
    assert len(str(source["weights_sha256"])) == 64
    report = (exported.bundle / "report.html").read_text(encoding="utf-8")
    assert "xxdeploy.export(model, int8=True, calibration=&lt;_BatchDataset&gt;" in report
    assert "xxdeploy-" not in report.partition("<pre>xxdeploy.export")[2][:400]


def test_three_lines_of_a_runtime(exported: ExportResult) -> None:
    name, picture, engine = str(load(exported.bundle)).splitlines()
    assert name == "farbe-von-heute-int8: classification, 3 classes"
    assert picture == "input: RGB picture, 12 x 12 (squash, bilinear-antialias), scaling none"
    assert engine.startswith("runs model")
    assert engine.endswith(" (int8) on onnxruntime")


def refusal(model: Any, tmp_path: Path, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        xxdeploy.export(model, tmp_path / "out", quiet=True, **options)
    assert not (tmp_path / "out").exists()
    return caught.value


def test_pictures_of_the_calibration_may_not_judge(model: Any, tmp_path: Path) -> None:
    error = refusal(model, tmp_path, int8=True, calibration=X[:50], eval=(X[40:], Y[40:]))
    assert error.code == "overlap"
    assert "such as calibration/0000" in error.message


def test_floats_of_0_to_1_do_not_pass_silently(model: Any, tmp_path: Path) -> None:
    assert refusal(model, tmp_path, int8=True, calibration=X[:50] / 255).code == "picture-range"
    assert refusal(model, tmp_path, eval=(X / 255, Y)).code == "picture-range"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"int8": True}, "calibration-missing"),
        ({"max_dorp": 1}, "unknown-option"),
        ({"max_drop": 1}, "max-drop-without-eval"),
        ({"eval": X}, "picture-label"),
        ({"weights": "none"}, "in-memory"),
        ({"custom_objects": "a:b"}, "in-memory"),
        ({"labels": [object()]}, "option-type"),
        ({"alpha": 1.0}, "catalog-only"),
        ({"eval": (X, Y + 1)}, "bad-labels-csv"),
    ],
)
def test_errors_speak_python(options: dict[str, Any], code: str, model: Any, tmp_path: Path) -> None:
    error = refusal(model, tmp_path, **options)
    assert error.code == code
    assert f"[{error.code}]" in str(error)
    assert error.hint in str(error)
    assert "--" not in str(error)


def test_a_promise_that_is_broken_is_an_error(model: Any, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="max_size_mb") as caught:
        xxdeploy.export(model, tmp_path / "out", max_size_mb=0.001, quiet=True)
    assert caught.value.code == "over-size"


@pytest.mark.parametrize("given", [3, None, ["lenet"], object, lambda: 3])
def test_what_is_no_model(given: Any, tmp_path: Path) -> None:
    error = refusal(given, tmp_path)
    assert error.code == "model-type"
    assert "xxdeploy.export takes a model" in error.message


def test_a_name_and_a_path(tmp_path: Path, model: Any) -> None:
    lines: list[Any] = []
    named = xxdeploy.export("LeNet", str(tmp_path / "a"), weights="sample", on_progress=lines.append)
    assert load(named.bundle).manifest.source["model"] == "lenet"
    assert {line.step for line in lines} >= {"build", "convert", "write"}
    model.save(tmp_path / "own.keras")
    assert load(xxdeploy.export(tmp_path / "own.keras", tmp_path / "b", quiet=True).bundle).manifest.name == "own-fp32"
    assert refusal(str(tmp_path / "absent.keras"), tmp_path / "c").code == "no-model-file"


def test_a_task_without_classes_needs_no_labels(model: Any, tmp_path: Path) -> None:
    """The pictures are taken, with pictures as targets; the refusal is about the model."""
    assert refusal(model, tmp_path, task="image", eval=(X, X)).code == "image-output"


def test_an_installation_without_libraries_names_the_extra() -> None:
    code = (
        "import sys\nsys.modules['numpy'] = None\nimport xxdeploy\nfrom xxdeploy.errors import XXDeployError\n"
        "for name in ('export', 'load'):\n    try:\n        getattr(xxdeploy, name)\n"
        "    except XXDeployError as error:\n        print(error.code, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"missing-dependency pip install 'xxdeploy[{extra}]'" for extra in ("export", "edge")
    ]


def test_the_package_is_light_and_a_device_has_no_exporter() -> None:
    code = (
        "import sys, xxdeploy\nassert 'export' in dir(xxdeploy)\n"
        "print(sorted({'numpy', 'xxdeploy.exporter', 'xxdeploy.runtime', 'tensorflow'} & set(sys.modules)))\n"
        "from xxdeploy import load\nprint('xxdeploy.exporter' in sys.modules)\n"
        "try:\n    xxdeploy.absent\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False", "module 'xxdeploy' has no attribute 'absent'"]


def test_one_hot_labels_of_another_number_of_classes_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one-hot vectors of 5 classes, and the model has 3") as caught:
        xxdeploy.export(model, tmp_path / "out", eval=(X, np.eye(5)[Y]), quiet=True)
    assert caught.value.code == "picture-label"
    assert not (tmp_path / "out").exists()
