"""The table of tasks: what each allows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
from manifests import code_of, good, mask, picture, sequence, values

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.manifest import SCHEMAS, Manifest, schema_for
from xxdeploy.runtime.bundle.tasks import TASKS, check_blank, check_output_range, check_task


def test_the_table_is_whole() -> None:
    assert list(TASKS) == ["classification", "features", "image", "values", "sequence"]
    assert all(name == task.name and task.schema in SCHEMAS for name, task in TASKS.items())


@pytest.mark.parametrize(
    ("task", "right", "wrong"),
    [
        ("classification", (1, 1000, 1_000_000), (0, -1, 1_000_001)),
        ("features", (0,), (1, 3)),
        ("values", (0,), (1, 3)),
        ("image", (0, 2, 256), (1, 257)),
        ("sequence", (2, 37), (0, 1)),
    ],
)
def test_numbers_of_classes(task: str, right: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    for classes in right:
        check_task(task, classes)
    for classes in wrong:
        with pytest.raises(BundleError, match="classes must be") as caught:
            check_task(task, classes)
        assert caught.value.code == "manifest-value"


@pytest.mark.parametrize(
    ("task", "classes", "right", "wrong"),
    [
        ("classification", 10, [(10,)], [(9,), (), (2, 10)]),
        ("features", 0, [(3,), (7, 7, 4)], [()]),
        ("values", 0, [(1,), (68, 2)], [()]),
        ("image", 0, [(8, 8, 3), (8, 9, 1)], [(8, 8), (8, 8, 2), (3,), (1, 8, 8, 3)]),
        ("image", 2, [(8, 8, 2), (8, 8, 1)], [(8, 8, 3), (64, 2)]),
        ("image", 5, [(8, 8, 5)], [(8, 8, 1), (8, 8, 4)]),
        ("sequence", 37, [(20, 37)], [(37,), (20, 36)]),
    ],
)
def test_shapes_of_outputs(task: str, classes: int, right: list[tuple[int, ...]], wrong: list[tuple[int, ...]]) -> None:
    assert all(TASKS[task].fits(shape, classes) for shape in right)
    assert not any(TASKS[task].fits(shape, classes) for shape in wrong)


@pytest.mark.parametrize("output_range", [(1.0, 1.0), (1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_that_is_none(output_range: tuple[float, float]) -> None:
    with pytest.raises(BundleError, match="the smaller first"):
        check_output_range("image", 0, output_range)


def test_only_a_sequence_has_a_blank_and_it_is_one_of_its_classes() -> None:
    check_blank("sequence", 3, 2, "labels.txt")
    check_blank("classification", 3, None, None)
    wrong = [("sequence", None, "labels.txt"), ("sequence", 3, "labels.txt"), ("sequence", -1, "labels.txt")]
    for task, blank, labels in [*wrong, ("sequence", 0, None), ("values", 0, None)]:
        with pytest.raises(BundleError) as caught:
            check_blank(task, 3, blank, labels)
        assert caught.value.code == "manifest-value"


@pytest.mark.parametrize("made", [picture, mask, values, sequence])
def test_other_tasks_survive_the_round_trip_in_schema_4_only(made: Callable[[], Manifest]) -> None:
    manifest = made()
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert schema_for(manifest.preprocess, (), manifest.task) == 4
    with pytest.raises(BundleError, match=f"schema 3 with 1 outputs, the task {manifest.task}"):
        dataclasses.replace(manifest, schema=3)
    with pytest.raises(BundleError, match="schema 4"):
        dataclasses.replace(good(), schema=4)


@pytest.mark.parametrize("value", [None, [0], [0, 1, 2], [1, 0], [0, 0], [0, "1"], "01", {"low": 0}, [True, 2]])
def test_pictures_need_a_range_of_two_numbers(value: object) -> None:
    assert code_of(json.dumps({**json.loads(picture().to_json()), "output_range": value})) == "manifest-value"


@pytest.mark.parametrize("made", [mask, values])
def test_only_pictures_have_a_range(made: Callable[[], Manifest]) -> None:
    data = json.loads(made().to_json())
    assert code_of(json.dumps({**data, "output_range": [0, 1]})) == "manifest-value"
    data.pop("output_range")
    assert code_of(json.dumps(data)) == "manifest-keys"
