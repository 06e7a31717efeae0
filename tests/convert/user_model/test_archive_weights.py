"""Names of weights in archives of older versions, as Keras 3 counts them. Whole files: ``test_files_of_keras2``."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from xxdeploy.convert.user_model.archive_weights import new_names, renamed_weights


def test_the_names_of_keras_3_stay() -> None:
    names = ["layers/conv2d/vars/0", "layers/conv2d_1/vars/0", "layers/conv2d_10/vars/0", "vars/0"]
    names += [f"layers/conv2d_{index}/vars/0" for index in range(2, 10)]
    assert all(old == new for old, new in new_names(names).items())


def test_numbers_are_counted_again_in_each_model_and_class() -> None:
    old = "_layer_checkpoint_dependencies"
    names = new_names(
        [
            f"{old}/conv2d/vars/0",
            f"{old}/conv2d_12/vars/0",
            f"{old}/conv2d_4/vars/0",
            f"{old}/dense_7/vars/1",
            f"{old}/functional_3/{old}/conv2d_9/vars/0",
        ]
    )
    assert list(names.values()) == [
        "layers/conv2d/vars/0",
        "layers/conv2d_2/vars/0",
        "layers/conv2d_1/vars/0",
        "layers/dense/vars/1",
        "layers/functional/layers/conv2d/vars/0",
    ]


def test_layers_without_weights_are_counted() -> None:
    names = new_names(["layers/sequential", "layers/sequential/vars", "layers/sequential_1/layers/conv2d/vars/0"])
    assert all(old == new for old, new in names.items())


def test_backslashes_of_windows() -> None:
    assert new_names(["layers\\conv2d_3/vars/0"]) == {"layers\\conv2d_3/vars/0": "layers/conv2d/vars/0"}


def test_layers_of_cudnn_have_the_names_of_those_in_their_places() -> None:
    assert list(new_names(["layers/cu_dnngru/vars/0", "layers/cu_dnngru_3/vars/0"]).values()) == [
        "layers/gru/vars/0",
        "layers/gru_1/vars/0",
    ]
    both = ["layers/cu_dnngru/vars/0", "layers/gru/vars/0"]  # which comes first is not known
    assert list(new_names(both).values()) == both


def test_a_copy_is_made_only_where_a_name_changes(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.arange(3.0)
    assert renamed_weights(path, tmp_path) == path
    with h5py.File(path, "a") as file:
        file["layers/dense_4/vars/0"] = np.arange(5.0)
    with h5py.File(renamed_weights(path, tmp_path)) as copy:
        np.testing.assert_array_equal(copy["layers/dense/vars/0"], np.arange(5.0))
        np.testing.assert_array_equal(copy["layers/conv2d/vars/0"], np.arange(3.0))
