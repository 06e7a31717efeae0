"""The sample weights and images that ship."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, BuildOptions, ModelSpec, find
from xxdeploy.models.samples import FASHION_MNIST, sample_for, sample_options, shipped_folder, shipped_set

WITH_SAMPLE = [spec for spec in CATALOG if "sample" in spec.weights]


@pytest.mark.parametrize("spec", WITH_SAMPLE, ids=lambda spec: spec.name)
def test_everything_that_belongs_to_a_sample_ships(spec: ModelSpec) -> None:
    sample = sample_for(spec)
    assert sample.weights.is_file()
    assert sample.labels == FASHION_MNIST
    assert sample.options.classes == len(sample.labels)
    assert {path.name for path in sample.calibration.iterdir()} == set(FASHION_MNIST)
    assert {path.name for path in sample.evaluation.iterdir()} == set(FASHION_MNIST)
    assert spec.title in sample.statement
    assert "Fashion-MNIST" in sample.statement


def test_the_catalog_and_the_samples_agree() -> None:
    for spec in CATALOG:
        if spec not in WITH_SAMPLE:
            with pytest.raises(UsageError) as caught:
                sample_for(spec)
            assert caught.value.code == "no-sample-weights"
            assert "MobileNetV2 and LeNet" in caught.value.hint


def test_options_are_filled_in() -> None:
    spec = find("mobilenetv2")
    assert sample_options(spec, BuildOptions()) == BuildOptions(alpha=0.35, input_size=48, classes=10)
    assert sample_options(spec, BuildOptions(input_size=48, seed=4)).seed == 4


@pytest.mark.parametrize(
    "options",
    [
        BuildOptions(alpha=0.5),
        BuildOptions(input_size=224),
        BuildOptions(classes=1000),
        BuildOptions(include_top=False),
        BuildOptions(pooling="avg"),
    ],
)
def test_other_options_are_refused(options: BuildOptions) -> None:
    with pytest.raises(UsageError) as caught:
        sample_options(find("mobilenetv2"), options)
    assert caught.value.code == "sample-options"


def test_the_installed_folder_goes_before_the_checkout(tmp_path: Path) -> None:
    package = tmp_path / "xxdeploy"
    with pytest.raises(UsageError) as caught:
        shipped_folder(package)
    assert caught.value.code == "no-shipped-folder"
    (tmp_path / "calibration").mkdir()  # of some other package, beside ours in site-packages
    with pytest.raises(UsageError):
        shipped_folder(package)
    (tmp_path / "calibration" / "sample").mkdir()
    assert shipped_folder(package) == tmp_path / "calibration"
    (package / "_shipped" / "calibration" / "sample").mkdir(parents=True)
    assert shipped_folder(package) == package / "_shipped" / "calibration"


def test_sets_that_ship_are_found_by_name() -> None:
    assert shipped_set("photos") == shipped_folder() / "photos.toml"
    assert shipped_set("sample") == shipped_folder() / "sample.toml"
    assert shipped_set("recipes/mobilenet") is None
    assert shipped_set("/photos") is None


def test_each_photograph_is_small_and_has_its_author_license_and_original() -> None:
    folder = shipped_folder() / "photos"
    text = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+\.jpg) \| ([^|]+) \| (CC0|public domain) \| ([^|]+) \|$", text, re.MULTILINE)
    files = sorted(folder.glob("*.jpg"))
    assert [path.name for path in files] == [name for name, *_ in rows]
    assert 14 <= len(files) <= 40
    assert sum(path.stat().st_size for path in files) < 2_500_000
    for path in files:
        with Image.open(path) as picture:
            assert max(picture.size) <= 512, path.name
            assert not picture.getexif(), path.name
