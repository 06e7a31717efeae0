from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from xxdeploy.convert.user_model.quarantine.saved_model.checkpoint import SIZES, read_index

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    place = tmp_path_factory.mktemp("variables")
    arrays = {f"layer_{index}/kernel": np.full((3, index + 1), index, np.float32) for index in range(300)}
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(place / "variables"),
        tensor_names=[*names, "scalar"],
        shape_and_slices=[""] * (len(names) + 1),
        tensors=[*arrays.values(), np.int64(5)],
    )
    return place


def test_entries_are_those_of_tensorflow(folder: Path) -> None:
    import tensorflow as tf

    entries, reader = read_index(folder), tf.train.load_checkpoint(str(folder / "variables"))
    assert {name: list(entry.shape) for name, entry in entries.items()} == reader.get_variable_to_shape_map()
    raw = (folder / "variables.data-00000-of-00001").read_bytes()
    for name in ("layer_7/kernel", "scalar"):
        entry = entries[name]
        array = np.frombuffer(raw[entry.offset : entry.offset + entry.size], tf.as_dtype(entry.dtype).as_numpy_dtype)
        np.testing.assert_array_equal(array.reshape(entry.shape), reader.get_tensor(name))


def test_sizes_are_those_of_tensorflow() -> None:
    import tensorflow as tf

    assert {number: tf.as_dtype(number).size for number in SIZES} == SIZES


def test_a_data_file_that_is_cut_off(folder: Path, tmp_path: Path) -> None:
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    data = tmp_path / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut off"):
        read_index(tmp_path)


def test_every_byte_of_an_index_may_be_damaged(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "variables.data-00000-of-00001").write_bytes((folder / "variables.data-00000-of-00001").read_bytes())
    whole = (folder / "variables.index").read_bytes()
    for place in range(0, len(whole), 37):
        (tmp_path / "variables.index").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(ValueError):  # no other error is allowed; TensorFlow finds the remaining damage by its checksums
            read_index(tmp_path)
