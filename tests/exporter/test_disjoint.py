"""Calibration, selection and evaluation never share an image, by path or by content."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xxdeploy.datasets import ImageSet, overlap
from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import SELECTION, Inputs, catalog_inputs
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.models.catalog import find


def draw(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(folder / f"{seed}-{index:03}.png")
    return folder


def labeled(root: Path, images: int = 2, seed: int = 900) -> Path:
    for index in range(10):
        draw(root / f"class-{index}", images, seed + index)
    return root


def followed(calibration: Path, evaluation: Path | None = None, samples: int | None = None, seed: int = 0) -> Inputs:
    plan = ExportOptions.of(
        "int8", weights="none", calibration=calibration, evaluation=evaluation, samples=samples, seed=seed
    )
    return catalog_inputs(find("lenet"), plan)


def sets(inputs: Inputs) -> list[ImageSet]:
    return [images for images in (inputs.calibration, inputs.selection, inputs.evaluation) if images is not None]


@pytest.mark.parametrize(
    ("images", "samples", "calibrated", "selected"),
    [
        (400, 100, 100, SELECTION),  # others of the folder
        (400, None, 300, 100),
        (130, 100, 100, 30),
        (110, 100, 75, 25),  # ten others say nothing: a quarter of the sample is held back
        (100, None, 75, 25),
        (64, None, 48, 16),
        (60, None, 60, 0),  # too few to hold any back
        (1, None, 1, 0),
    ],
)
def test_how_many_are_held_back(
    tmp_path: Path, images: int, samples: int | None, calibrated: int, selected: int
) -> None:
    inputs = followed(draw(tmp_path / "pool", images), labeled(tmp_path / "labelled"), samples)
    assert inputs.calibration is not None
    assert len(inputs.calibration) == calibrated
    assert (0 if inputs.selection is None else len(inputs.selection)) == selected
    assert bool(inputs.notes) is (selected == 0)
    for one, other in combinations(sets(inputs), 2):
        assert overlap(one, other) == ()


@pytest.mark.parametrize("samples", [40, 80, None])
@pytest.mark.parametrize("seed", range(3))
def test_copies_of_a_calibration_image_are_never_selected(tmp_path: Path, samples: int | None, seed: int) -> None:
    pool = draw(tmp_path / "pool", 80)
    for path in sorted(pool.iterdir()):  # each image a second time, under another name in another folder
        (tmp_path / "pool" / "again").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "pool" / "again" / f"copy-of-{path.name}")
    inputs = followed(pool, samples=samples, seed=seed)
    assert inputs.calibration is not None
    assert inputs.selection is not None
    assert overlap(inputs.calibration, inputs.selection) == ()
    contents = [{path.read_bytes() for path in images.files} for images in (inputs.calibration, inputs.selection)]
    assert not contents[0] & contents[1]


def test_a_folder_of_copies_leaves_nothing_to_select(tmp_path: Path) -> None:
    pool = draw(tmp_path / "pool", 1)
    for index in range(99):
        shutil.copy(pool / "0-000.png", pool / f"copy-{index}.png")
    inputs = followed(pool)
    assert inputs.selection is None
    assert "too few" in inputs.notes[0]


@pytest.mark.parametrize("which", ["calibration", "selection"])
def test_an_evaluation_image_in_either_set_is_refused(tmp_path: Path, which: str) -> None:
    pool, evaluation = draw(tmp_path / "pool", 100), labeled(tmp_path / "labelled")
    inputs = followed(pool, evaluation)
    images = inputs.calibration if which == "calibration" else inputs.selection
    assert images is not None
    shutil.copy(images.files[3], evaluation / "class-1" / "another-name.png")
    with pytest.raises(UsageError) as caught:
        followed(pool, evaluation)
    assert caught.value.code == "overlap"
    assert images.files[3].name in caught.value.message


def test_the_choice_is_the_same_again_and_another_with_another_seed(tmp_path: Path) -> None:
    pool = draw(tmp_path / "pool", 400)
    chosen = [[images.files for images in sets(followed(pool, samples=100, seed=seed))] for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1]
    assert chosen[0][0] != chosen[2][0]
    assert chosen[0][1] != chosen[2][1]
