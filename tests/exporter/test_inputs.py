import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codes import code_of

from xxdeploy.datasets import open_images
from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import DEFAULT_SAMPLES, catalog_inputs, images_that_fit, sizing_of
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.models.catalog import find
from xxdeploy.results import ModelOutput
from xxdeploy.runtime.image.sizing import Sizing


def refused(precision: str = "fp32", **options: object) -> str:
    return code_of(catalog_inputs, find("lenet"), ExportOptions.of(precision, weights="none", **options))


def test_the_plan_is_followed_to_images_labels_and_preprocessing(images: Path) -> None:
    options = ExportOptions.of(
        "int8", weights="none", calibration=images / "plain", evaluation=images / "labelled", resize="crop"
    )
    inputs = catalog_inputs(find("lenet"), options)
    assert inputs.calibration is not None
    assert len(inputs.calibration) == 20 < DEFAULT_SAMPLES
    assert inputs.evaluation is not None
    assert inputs.evaluation.labels == tuple(index // 2 for index in range(20))
    assert inputs.labels is not None
    assert inputs.labels.names[3] == "class-3"  # ten folders, ten outputs
    assert (inputs.picture.height, inputs.picture.channels, inputs.picture.sizing.resize) == (28, 1, "crop")
    assert (inputs.task, inputs.method) == ("classification", None)  # the recipe or the ladder chooses
    assert inputs.selection is None  # a quarter of 20 says nothing
    assert "too few" in inputs.notes[0]


def test_sample_weights_bring_everything(images: Path) -> None:
    inputs = catalog_inputs(find("mobilenetv2"), ExportOptions.of("int8", weights="sample"))
    assert inputs.calibration is not None
    assert inputs.evaluation is not None
    assert inputs.selection is not None
    assert (len(inputs.calibration), len(inputs.selection)) == (150, 50)  # a quarter is held back
    assert inputs.selection.labels is not None  # its folders name the network's classes
    assert (inputs.build.alpha, inputs.picture.height, inputs.classes) == (0.35, 48, 10)
    assert "Fashion-MNIST" in inputs.notes[0]


def test_a_recipe_names_samples_method_and_resize(images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'folder = "{images / "plain"}"\nsamples = 7\nmethod = "percentile-99.9"\nresize = "crop"\n')
    options = ExportOptions.of("int8", weights="none", calibration=recipe)
    inputs = catalog_inputs(find("lenet"), options)
    assert inputs.calibration is not None
    assert (len(inputs.calibration), inputs.method, inputs.picture.sizing.resize) == (7, "percentile-99.9", "crop")
    asked = catalog_inputs(find("lenet"), options.changed(samples=3, method="minmax"))
    assert asked.calibration is not None
    assert (len(asked.calibration), asked.method) == (3, "minmax")


def test_data_digest_depends_on_images_and_preprocessing(images: Path) -> None:
    digests = set()
    for resize, samples in (("squash", 5), ("crop", 5), ("squash", 6)):
        options = ExportOptions.of("int8", weights="none", calibration=images / "plain", resize=resize, samples=samples)
        inputs = catalog_inputs(find("lenet"), options)
        assert inputs.calibration is not None
        digests.add(inputs.data_digest(inputs.calibration))
    assert len(digests) == 3


def test_imagenet_names_come_with_a_thousand_classes() -> None:
    labels = catalog_inputs(find("mobilenet"), ExportOptions.of(weights="none")).labels
    assert labels is not None
    assert labels.names[0].startswith("tench")


def test_what_cannot_be_done_is_said_before_any_work(images: Path, tmp_path: Path) -> None:
    plain, labeled = images / "plain", images / "labelled"
    ten = tmp_path / "two.txt"
    ten.write_text("cat\ndog\n")
    assert refused("int8") == "calibration-missing"
    assert refused("int8", calibration=plain, samples=21) == "too-few-images"
    assert refused("int8", calibration=labeled, evaluation=labeled) == "overlap"
    assert refused(labels=ten) == "labels-count"
    assert refused(max_drop=1.0) == "max-drop-without-eval"
    assert refused(no_top=True, evaluation=labeled) == "features-evaluation"
    assert refused("int8", no_top=True, calibration=plain, min_agreement=98.0) == "features-evaluation"
    assert refused("int8", no_top=True, calibration=plain, max_drop=1.0) == "features-evaluation"
    assert refused("int8", no_top=True, calibration=plain, threshold=0.5) == "features-evaluation"
    assert refused("int8", calibration=tmp_path / "absent") == "no-recipe"


@pytest.mark.parametrize(
    ("given", "sizing"),
    [
        ({}, Sizing()),
        ({"resample": "bilinear"}, Sizing(resample="bilinear")),
        ({"resize": "crop", "crop_fraction": 1}, Sizing("crop", crop_fraction=1.0)),
        ({"resize": "pad", "pad_color": "114"}, Sizing("pad", pad_color=(114,))),
        ({"resize": "pad", "pad_color": "1, 2,3"}, Sizing("pad", pad_color=(1, 2, 3))),
        ({"resize": "fit", "resample": "lanczos-antialias"}, Sizing("fit", "lanczos-antialias")),
    ],
)
def test_options_say_how_pictures_are_brought_to_size(given: dict[str, Any], sizing: Sizing) -> None:
    assert sizing_of(ExportOptions.of(**given)) == sizing


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"crop_fraction": 0.9}, "for resize 'crop', not 'squash'"),
        ({"resize": "crop", "crop_fraction": 2.0}, "0.1 to 1"),
        ({"pad_color": "7"}, "for resize 'pad', not 'squash'"),
        ({"resize": "pad", "pad_color": "white"}, "'white' is not a color"),
        ({"resize": "pad", "pad_color": "1,2"}, "is not a color"),
        ({"resize": "pad", "pad_color": "256"}, "0 to 255"),
        ({"resize": "fit", "resample": "bilinear"}, "use 'crop'"),
    ],
)
def test_contradictions_of_size_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        sizing_of(ExportOptions.of(**given))
    assert caught.value.code == "sizing-options"


def test_the_recipe_of_the_calibration_may_crop(images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'folder = "{images / "plain"}"\nresize = "crop"\n')
    options = ExportOptions.of("int8", calibration=recipe, crop_fraction=1.0)
    assert sizing_of(options) == Sizing("crop", crop_fraction=1.0)


def test_imagenet_weights_are_calibrated_on_the_shipped_photographs_by_default() -> None:
    inputs = catalog_inputs(find("mobilenetv2"), ExportOptions.of("int8"))
    assert inputs.calibration is not None
    assert inputs.selection is not None
    assert (len(inputs.calibration), len(inputs.selection)) == (240, 240)
    kept, held = (set(images.files) for images in (inputs.calibration, inputs.selection))
    assert (len(kept), len(held), kept & held) == (16, 5, set())  # no photograph is on both sides
    assert inputs.notes[0] == (
        "calibrated on 240 random crops of 16 photographs, judged on 240 crops of 5 other photographs"
    )
    assert inputs.notes[1].startswith("these photographs ship with xxdeploy: ")
    assert inputs.notes[1].endswith("calibrate on images like those in use: --calibration FOLDER")
    assert catalog_inputs(find("mobilenetv2"), ExportOptions.of("fp16")).calibration is None


def test_photographs_for_another_model_come_with_a_warning(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ExportOptions.of("int8", weights="none", calibration=Path("photos"), samples=20)
    inputs = catalog_inputs(find("lenet"), options)
    assert inputs.calibration is not None
    assert inputs.selection is not None
    assert (len(inputs.calibration), len(inputs.selection)) == (20, 20)
    assert inputs.notes[1].startswith("WARNING: the photographs ship with xxdeploy, and may be of another kind")
    assert inputs.warnings == inputs.notes[1:2]
    shutil.copytree(images / "plain", "photos")  # a folder of that name is meant, not the set that ships
    inputs = catalog_inputs(find("lenet"), options)
    assert inputs.calibration is not None
    assert inputs.calibration.root == Path("photos")


def test_a_few_photographs_of_your_own_can_be_cropped(images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'folder = "{images / "plain"}"\nsamples = 40\nsmallest-crop = 0.5\n')
    inputs = catalog_inputs(find("lenet"), ExportOptions.of("int8", weights="none", calibration=recipe))
    assert inputs.notes == (
        "calibrated on 40 random crops of 15 photographs, judged on 40 crops of 5 other photographs",
    )
    few = catalog_inputs(find("lenet"), ExportOptions.of("int8", weights="none", calibration=recipe, samples=8))
    assert few.selection is None
    assert "too few" in few.notes[1]


def test_images_whose_outputs_take_too_much_memory_are_sampled(images: Path) -> None:
    plain = open_images(images / "plain")
    notes: list[str] = []
    large = ModelOutput("mask", 16, "image", (2048, 2048, 16))
    assert len(images_that_fit(plain, large, notes)) == 4
    assert notes == ["4 of the 20 images of plain are compared: an output has 268,435,456 bytes"]
    features, small = ModelOutput("features", None, shape=(4096, 4096, 64)), replace(large, shape=(8, 8, 16))
    for output in (ModelOutput("probabilities", 10), features, small):
        assert images_that_fit(plain, output, notes) is plain
    assert len(notes) == 1
