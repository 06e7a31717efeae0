"""Recipes of calibration sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.datasets import CalibrationRecipe, load_recipe, open_images, recipe_from
from xxdeploy.errors import UsageError
from xxdeploy.models.samples import shipped_folder


def test_the_shipped_recipe() -> None:
    recipe = load_recipe(shipped_folder() / "sample.toml")
    assert recipe == CalibrationRecipe(shipped_folder() / "sample/calibration", 200, 0, "minmax", "squash")
    assert len(open_images(recipe.folder).sample(recipe.samples, recipe.seed)) == 200


def test_the_shipped_recipe_of_crops() -> None:
    recipe = load_recipe(shipped_folder() / "photos.toml")
    assert recipe == CalibrationRecipe(shipped_folder() / "photos", 240, 0, smallest_crop=0.5)
    assert len(open_images(recipe.folder)) == 21


def test_a_folder_is_a_recipe(tmp_path: Path) -> None:
    assert recipe_from(tmp_path) == CalibrationRecipe(tmp_path)


def test_paths_are_relative_to_the_file_or_absolute(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('folder = "../images"', encoding="utf-8")
    assert recipe_from(path).folder == tmp_path / "../images"
    path.write_text(f"folder = '{tmp_path}/x'", encoding="utf-8")
    assert recipe_from(path).folder == tmp_path / "x"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the key folder is missing"),
        ('folder = ""', "the key folder is missing"),
        ("folder = [", "is not TOML"),
        ('folder = "a"\nsample = 3', "unknown keys: 'sample'"),
        ("folder = 3", "folder must be str, not 3"),
        ('folder = "a"\nsamples = "3"', "samples must be int"),
        ('folder = "a"\nsamples = true', "samples must be int, not True"),
        ('folder = "a"\nsamples = 2.0', "samples must be int"),
        ('folder = "a"\nsamples = 0', "1 or more"),
        ('folder = "a"\nseed = -1', "0 or more"),
        ('folder = "a"\nresize = "stretch"', "squash, crop"),
        ("[folder]\nx = 1", "folder must be str"),
        ('folder = "a"\nsmallest-crop = 0.5', "needs samples"),
        ('folder = "a"\nsamples = 3\nsmallest-crop = 1', "must be float"),
        ('folder = "a"\nsamples = 3\nsmallest-crop = 0.0', "above 0 and at most 1"),
        ('folder = "a"\nsamples = 3\nsmallest-crop = nan', "above 0 and at most 1"),
    ],
)
def test_a_damaged_recipe(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=problem) as caught:
        load_recipe(path)
    assert caught.value.code == "bad-recipe"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"folder = '\xff'")
    with pytest.raises(UsageError, match="is not TOML"):
        load_recipe(tmp_path / "r.toml")


def test_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        recipe_from(tmp_path / "gone.toml")
    assert caught.value.code == "no-recipe"
