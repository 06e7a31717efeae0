from pathlib import Path

from codes import code_of

from xxdeploy.exporter.inputs import DEFAULT_SAMPLES, catalog_inputs
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.models.catalog import find


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
    assert (inputs.preprocess.height, inputs.preprocess.channels, inputs.preprocess.resize) == (28, 1, "crop")
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
    assert (inputs.build.alpha, inputs.preprocess.height, inputs.classes) == (0.35, 48, 10)
    assert "Fashion-MNIST" in inputs.notes[0]


def test_a_recipe_names_samples_method_and_resize(images: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'folder = "{images / "plain"}"\nsamples = 7\nmethod = "percentile-99.9"\nresize = "crop"\n')
    options = ExportOptions.of("int8", weights="none", calibration=recipe)
    inputs = catalog_inputs(find("lenet"), options)
    assert inputs.calibration is not None
    assert (len(inputs.calibration), inputs.method, inputs.preprocess.resize) == (7, "percentile-99.9", "crop")
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
    assert refused("int8", calibration=tmp_path / "absent") == "no-recipe"
