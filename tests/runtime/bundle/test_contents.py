"""Labels and .npy files: there and back, and everything that is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.contents import array_from_npy, labels_from_text, npy_from_array, text_from_labels


def test_labels_round_trip() -> None:
    names = ("crane", "crane", "café, 2nd")
    assert labels_from_text(text_from_labels(names), 3) == names


def test_a_character_may_be_a_space() -> None:
    assert labels_from_text(text_from_labels((" ", "a"), characters=True), 2, characters=True) == (" ", "a")
    with pytest.raises(BundleError):
        labels_from_text(b" \na\n", 2)
    with pytest.raises(BundleError):
        labels_from_text(b"\na\n", 2, characters=True)


@pytest.mark.parametrize(
    ("data", "classes"),
    [(b"a\nb\n", 3), (b"a\nb\n", 1), (b"", 1), (b"a\n\n", 2), (b"a\r\nb\r\n", 2), (b"\xff\n", 1), (b"a\x1b[31m\n", 1)],
)
def test_wrong_labels(data: bytes, classes: int) -> None:
    with pytest.raises(BundleError) as caught:
        labels_from_text(data, classes)
    assert caught.value.code == "labels-invalid"


@pytest.mark.parametrize("names", [("a\nb",), ("",), ("\ud800",), ("a" * 2000,), ("\t",)])
def test_labels_that_cannot_be_read_are_not_written(names: tuple[str, ...]) -> None:
    with pytest.raises(BundleError):
        text_from_labels(names)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.dtype(">f4")])
def test_npy_round_trip(dtype: np.dtype[np.generic]) -> None:
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(dtype))
    data = npy_from_array(array)
    again = array_from_npy(data, "x")
    assert np.array_equal(again, array)
    assert np.array_equal(np.load(io.BytesIO(data), allow_pickle=False), array)
    assert not again.flags.writeable


def test_npy_of_other_types_is_refused() -> None:
    for array in (np.zeros(3), np.array(["a"]), np.array([None])):
        with pytest.raises(ValueError, match="uint8 and float32"):
            npy_from_array(array)


def header(text: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + body


def pickle_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x02\x00\x00\x00",
        npy_from_array(np.zeros(4, np.float32))[:-1],
        npy_from_array(np.zeros(4, np.float32)) + b"x",
        pickle_npy(),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}\n", b"1234"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}\n", b"1234"),
        header("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}\n", b"1234"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': ()}\n", b"12345678"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"12345678"),
        header("(" * 5000),
        header("__import__('os').system('true')"),
    ],
    ids=range(13),
)
def test_npy_that_was_tampered_with(data: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        array_from_npy(data, "golden/inputs.npy")
    assert caught.value.code == "array-invalid"
    assert "golden/inputs.npy" in caught.value.message
