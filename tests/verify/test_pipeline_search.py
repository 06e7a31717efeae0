"""The search finds each part of a pipeline on pictures that need it, and says so where the pictures do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import picturetasks
import pytest
from picturetasks import SIDE, NearestMean

from xxdeploy.datasets import ImageSet, Labels, open_images
from xxdeploy.runtime.image.sizing import DEFAULT_SIZING, Sizing
from xxdeploy.verify.pipeline_search import Search
from xxdeploy.verify.pipelines import Diagnosis, Pipeline

SIZE = (SIDE, SIDE, 3)
NAMES = tuple("abcdef")
USUAL = Pipeline("tf", "rgb", DEFAULT_SIZING, "text")


def search(root: Path, task: Any, made_for: Pipeline, **options: Any) -> Search:
    """A network that was made for one pipeline, and the pictures of a task."""
    picturetasks.write(root, task, NAMES)
    runner = NearestMean(root, NAMES, made_for.preprocess(SIZE))
    images = open_images(root, labels=Labels(NAMES), require_labels=True)
    assert images.labels is not None
    mixed = ImageSet(root, tuple(images.files[i::12][k] for i in range(12) for k in range(len(NAMES))))
    truth = tuple(NAMES.index(file.parent.name) for file in mixed.files)
    return Search(runner, mixed, {"text": truth}, SIZE, lambda _: None, **options)


def diagnosed(root: Path, task: Any, made_for: Pipeline, given: Pipeline | None = USUAL, **options: Any) -> Diagnosis:
    return search(root, task, made_for, **options).find(given, given or USUAL)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "area"])
def test_fine_lines_tell_the_resampling(name: str, tmp_path: Path) -> None:
    found = diagnosed(tmp_path, picturetasks.lines, Pipeline("tf", "rgb", Sizing(resample=name), "text"))
    assert found.chosen.sizing.resample == name
    assert found.mends
    assert found.top1 > 0.95 > 0.5 > (found.given_top1 or 0)
    (aspect,) = (aspect for aspect in found.aspects if aspect.name == "resample")
    assert "bilinear-antialias" in {rival.value for rival in aspect.rivals if rival.excluded}
    assert "resize" in {aspect.name for aspect in found.aspects if aspect.ties}  # the lines fill the whole picture


@pytest.mark.parametrize(
    "sizing",
    [Sizing("crop", "bilinear", 1.0), Sizing("pad", "bilinear"), Sizing("squash", "bilinear")],
    ids=lambda sizing: sizing.resize,
)
def test_the_border_tells_the_geometry(sizing: Sizing, tmp_path: Path) -> None:
    given = Pipeline("tf", "rgb", Sizing("crop" if sizing.resize != "crop" else "squash", "bilinear"), "text")
    task = picturetasks.edges if sizing.resize != "crop" else _middle
    found = diagnosed(tmp_path, task, Pipeline("tf", "rgb", sizing, "text"), given)
    assert found.chosen.sizing.resize == sizing.resize
    assert found.mends
    assert found.top1 > 0.95


def _middle(random: Any, kind: int) -> Any:
    pixels = picturetasks.edges(random, 0)
    pixels[:, SIDE:-SIDE] = 20 + 20 * 1.5**kind
    pixels[:, :SIDE] = random.integers(0, 255)
    return pixels


@pytest.mark.parametrize(("scaling", "channels"), [("tf", "bgr"), ("caffe", "bgr"), ("0..1", "rgb"), ("none", "bgr")])
def test_red_and_blue_tell_scaling_and_channels(scaling: str, channels: str, tmp_path: Path) -> None:
    found = diagnosed(tmp_path, picturetasks.colors, Pipeline(scaling, channels, DEFAULT_SIZING, "text"))
    assert (found.chosen.scaling, found.chosen.channels) == (scaling, channels)
    assert found.mends
    assert {aspect.name for aspect in found.aspects if aspect.ties} >= {"resample", "resize"}
    assert found.chosen.sizing == DEFAULT_SIZING  # kept, since the pictures do not speak against it


def test_without_a_given_scaling_it_is_found(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, picturetasks.colors, Pipeline("torch", "rgb", DEFAULT_SIZING, "text"), None)
    assert (found.chosen.word, found.given_top1, found.change, found.mends) == ("torch", None, None, False)
    assert found.supported


def test_the_order_of_the_classes_costs_no_run(tmp_path: Path) -> None:
    asked = search(tmp_path, picturetasks.colors, USUAL)
    truth = asked.truths["text"]
    asked.truths = {"text": [5 - kind for kind in truth], "numeric": truth}
    found = asked.find(USUAL, USUAL)
    assert found.chosen == Pipeline("tf", "rgb", DEFAULT_SIZING, "numeric")
    assert (found.top1, found.given_top1) == (1, 0)
    assert found.change is not None
    assert (found.change.gained, found.change.lost) == (len(truth), 0)


def test_pictures_that_say_nothing_support_nothing(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, picturetasks.plain, Pipeline("0..1", "rgb", Sizing(resample="area"), "text"))
    assert not found.supported
    assert not found.mends


def test_what_is_right_already_stays(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, picturetasks.colors, USUAL)
    assert found.chosen == found.given == USUAL
    assert found.top1 == found.given_top1 == 1
    assert not found.mends


def test_a_short_search_tries_few_sizings(tmp_path: Path) -> None:
    made_for = Pipeline("tf", "rgb", Sizing(resample="bilinear"), "text")
    short = diagnosed(tmp_path / "a", picturetasks.lines, made_for, is_short=True)
    assert short.chosen == made_for
    assert short.tried < 30
    kept = diagnosed(tmp_path / "b", picturetasks.lines, made_for, keeps_size=True)
    assert kept.chosen.sizing == DEFAULT_SIZING
