"""Weights of cuDNN and of Keras 1, and what stays as it is. Whole files: ``test_files_of_keras2``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from xxdeploy.convert.user_model.recurrent_weights import arrays_from_cudnn, readable_weights, without_cudnn

RANDOM = np.random.default_rng(0)


def layer(kind: str, **item: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": "reader", "units": 3}, **item}


def test_layers_of_cudnn_are_replaced_wherever_they_stand() -> None:
    wrapped = {"class_name": "Bidirectional", "config": {"layer": layer("CuDNNGRU", module="keras.layers")}}
    changed, notes = without_cudnn([layer("CuDNNLSTM"), wrapped])
    lstm, gru = changed[0], changed[1]["config"]["layer"]
    same = {"name": "reader", "units": 3, "activation": "tanh", "recurrent_activation": "sigmoid"}
    assert lstm == {"class_name": "LSTM", "config": same}
    assert gru == {"class_name": "GRU", "config": {**same, "reset_after": True}}
    assert notes[0] == "reader (CuDNNLSTM) is exported as LSTM, which computes the same"


@pytest.mark.parametrize(
    ("item", "custom"),
    [
        (layer("CuDNNLSTM"), {"CuDNNLSTM"}),
        (layer("CuDNNLSTM", module="kerasy.layers"), set()),
        (layer("CuDNNLSTM", registered_name="Mine>CuDNNLSTM"), set()),
        (layer("LSTM"), set()),
    ],
)
def test_layers_of_others_stay(item: dict[str, Any], custom: set[str]) -> None:
    assert without_cudnn(item, frozenset(custom)) == (item, ())


def test_a_gate_of_cudnn_is_transposed_and_has_two_biases() -> None:
    kernel = np.concatenate([np.array([[0, 3, 1], [4, 2, 5]]) + 10 * gate for gate in range(3)], axis=1)
    recurrent, bias = RANDOM.normal(size=(3, 9)), np.arange(18.0)
    inputs, states, biases = arrays_from_cudnn(kernel, recurrent, bias)
    np.testing.assert_array_equal(inputs[:, 3:6], [[10, 11, 12], [13, 14, 15]])
    np.testing.assert_array_equal(states[:, 3:6], recurrent[:, 3:6].T)
    np.testing.assert_array_equal(biases, [np.arange(9.0), np.arange(9.0, 18.0)])
    np.testing.assert_array_equal(
        arrays_from_cudnn(RANDOM.normal(size=(2, 4)), np.ones((1, 4)), np.arange(8.0))[2], [4, 6, 8, 10]
    )


def test_files_of_today_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        for name, bias in (("lstm", (12,)), ("gru", (2, 9))):
            width = bias[-1]
            for key, shape in (("kernel:0", (5, width)), ("recurrent_kernel:0", (3, width)), ("bias:0", bias)):
                file[f"{name}/{key}"] = np.zeros(shape)
            for index, shape in enumerate([(5, width), (3, width), bias]):
                file[f"layers/{name}/cell/vars/{index}"] = np.zeros(shape)
        file["own/own_U_i:0"] = np.zeros((3, 3))  # no LSTM: its other gates are absent
        file["own"].attrs["weight_names"] = [b"own_U_i:0"]
    assert readable_weights(path, tmp_path) == path


def test_the_gates_of_keras_1_are_joined_in_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    names = ["before:0", *(f"one_{kind}_{gate}:0" for gate in "zrh" for kind in "WUb"), "after:0"]
    with h5py.File(path, "w") as file:
        for number, name in enumerate(names):
            file[f"group/{name}"] = np.full((2, 2), number)
        file["group"].attrs["weight_names"] = [name.encode() for name in names]
    with h5py.File(readable_weights(path, tmp_path)) as copy:
        assert list(copy["group"].attrs["weight_names"]) == [
            b"before:0",
            b"one_W:0",
            b"one_U:0",
            b"one_b:0",
            b"after:0",
        ]
        np.testing.assert_array_equal(copy["group/one_U:0"][0], [2, 2, 5, 5, 8, 8])
        assert len(copy["group"]) == 5
