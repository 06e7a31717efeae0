"""Facts of a configuration: what it says, and nothing if it says nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from model_files import layer, legacy, model
from user_nets import old_functional, old_input, old_layer, reads

from xxdeploy.convert.user_model.quarantine.facts import count_parameters, facts_of

DENSE = {"class_name": "Dense", "config": {"name": "last", "units": 3, "batch_input_shape": [None, 7]}}


def test_a_model_of_keras_3() -> None:
    told = facts_of(model(layer("keras.layers", "ReLU", {"name": "relu"}, "image")))
    assert told == {"name": "net", "layers": 3, "inputs": [["image", [None, 4, 4, 3]]], "outputs": ["dense"]}


def test_a_model_of_keras_2_with_a_model_inside() -> None:
    inner = old_functional("inside", [old_input("a", 4, 4, 3), old_layer("b", "ReLU", reads("a"))], reads("x"))
    told = facts_of(
        old_functional("whole", [old_input("x", 4, 4, 3), inner, old_layer("c", "Flatten", reads("inside"))])
    )
    assert told == {"name": "whole", "layers": 2, "inputs": [["x", [None, 4, 4, 3]]], "outputs": ["c"]}


def test_a_list_of_layers() -> None:
    told = facts_of({"class_name": "Sequential", "config": [DENSE, DENSE]})
    assert told == {"name": "Sequential", "layers": 2, "inputs": [["last", [None, 7]]], "outputs": ["last"]}


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        {"config": 3},
        {"config": {"layers": 3}},
        {"config": {"layers": [None, 3, {"config": []}], "output_layers": [[[]]], "input_layers": {"a": 3}}},
        {"class_name": "Sequential", "config": {"layers": [{"class_name": "Functional", "config": {"layers": ["x"]}}]}},
    ],
)
def test_nonsense_is_no_error(config: Any) -> None:
    facts_of(config)


def test_parameters_are_those_of_the_model(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", write=lambda file: file.create_dataset("optimizer_weights/m", data=np.zeros(99)))
    with h5py.File(path) as file:
        assert count_parameters(file) == 48 * 3 + 3
