"""Top classes, processor features, labels, .npy files."""

from __future__ import annotations

import io

import numpy as np
import pytest

from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime.bundle.labels import labels_from_text, text_from_labels
from xxdeploy.runtime.bundle.npy import array_from_npy, npy_from_array
from xxdeploy.runtime.cpu import cpu_features, features_from
from xxdeploy.runtime.postprocess import FEW, Prediction, top_predictions

LABELS = ("a", "b", "c", "d")


def test_best_first_and_ties_by_index() -> None:
    row = np.array([0.2, 0.3, 0.2, 0.3], np.float32)
    assert [p.index for p in top_predictions(row, LABELS, 4)] == [1, 3, 0, 2]
    assert top_predictions(row, LABELS, 1) == (Prediction(1, "b", float(np.float32(0.3))),)
    assert len(top_predictions(row, LABELS, 99)) == 4


@pytest.mark.parametrize("classes", [5, FEW, FEW + 1, 1000])
def test_ties_keep_their_order_with_few_and_with_many_classes(classes: int) -> None:
    row = (np.random.default_rng(classes).integers(0, 4, classes) / 4).astype(np.float32)
    expected = np.argsort(-row, kind="stable")[:5].tolist()
    assert [each.index for each in top_predictions(row, [str(index) for index in range(classes)], 5)] == expected


@pytest.mark.parametrize("top", [0, -1])
def test_top_below_one(top: int) -> None:
    with pytest.raises(UsageError) as caught:
        top_predictions(np.zeros(4, np.float32), LABELS, top)
    assert caught.value.code == "top-invalid"


def test_another_number_of_labels_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="labels"):
        top_predictions(np.zeros(3, np.float32), LABELS, 1)


X86 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 {}\n\nprocessor\t: 1\nflags\t\t: fpu sse2 avx2 {}\n"


@pytest.mark.parametrize(
    ("text", "machine", "features"),
    [
        (X86.format("avx512_vnni", "avx512_vnni"), "x86_64", {"avx2", "vnni"}),
        (X86.format("avx_vnni", "avx_vnni"), "AMD64", {"avx2", "vnni"}),
        (X86.format("avx512f", "avx512f"), "x86_64", {"avx2"}),
        (X86.format("avx512_vnni", ""), "x86_64", {"avx2"}),
        ("Features\t: fp asimd asimddp\n", "aarch64", {"arm", "dotprod"}),
        ("Features\t: fp asimd\n", "aarch64", {"arm"}),
        ("Features\t: half thumb neon\n", "armv7l", {"arm"}),
        ("", "arm64", {"arm"}),
        ("", "x86_64", set()),
        ("model name : avx512_vnni\n", "x86_64", set()),
    ],
)
def test_features_that_every_core_has(text: str, machine: str, features: set[str]) -> None:
    assert features_from(text, machine) == features


def test_features_of_this_machine_are_known_words() -> None:
    assert cpu_features() <= {"avx2", "vnni", "arm", "dotprod"}


def test_labels_round_trip() -> None:
    names = ("crane", "crane", "café, 2nd")
    assert labels_from_text(text_from_labels(names), 3) == names


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
