"""HDF5 files with bad intentions: links, cycles, bombs, objects instead of numbers."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from model_files import archive, legacy, refusal_code, weights


def external_link(file: h5py.File) -> None:
    file["layers/dense/more"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file: h5py.File) -> None:
    file["layers/dense/more"] = h5py.SoftLink("/layers/dense/vars/0")


def cycle(file: h5py.File) -> None:
    file["again"] = file["/"]


def two_names(file: h5py.File) -> None:
    file["again"] = file["layers/dense/vars/0"]


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", (4,))
    file.create_virtual_dataset("layers/dense/virtual", layout)


def external_data(file: h5py.File) -> None:
    file.create_dataset("layers/dense/external", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def pickled(file: h5py.File) -> None:
    file["layers/dense/pickle"] = np.array(
        [base64.b64encode(pickle.dumps(print))], dtype=h5py.special_dtype(vlen=bytes)
    )


def opaque(file: h5py.File) -> None:
    file["layers/dense/opaque"] = np.array([b"\x80\x04" * 40], dtype="V80")


def references(file: h5py.File) -> None:
    file["layers/dense/reference"] = np.array([file["layers"].ref], dtype=h5py.ref_dtype)


def never_written(file: h5py.File) -> None:
    file.create_dataset("layers/dense/huge", (1 << 40,), "f4")


def compressed(file: h5py.File) -> None:
    file.create_dataset("layers/dense/huge", (1 << 36,), "f4", chunks=(1 << 16,), compression="gzip")


def packed(file: h5py.File) -> None:
    file.create_dataset("layers/dense/huge", data=np.zeros(1 << 23, np.float32), compression="gzip")


def many_small(file: h5py.File) -> None:
    for index in range(600):  # each below the limit of one
        file.create_dataset(f"layers/dense/d{index}", (1 << 17,), "f4")


def deep(file: h5py.File) -> None:
    file.create_group("/".join("a" * 100))


def named_type(file: h5py.File) -> None:
    file["layers/type"] = np.dtype("f4")


def many_axes(file: h5py.File) -> None:
    file.create_dataset("layers/dense/axes", (1,) * 20, "f4")


def attribute_of_references(file: h5py.File) -> None:
    file["layers"].attrs.create("r", file["layers"].ref, dtype=h5py.ref_dtype)


WRITERS = [
    external_link, soft_link, cycle, two_names, virtual, external_data, pickled, opaque, references, never_written,
    compressed, packed, many_small, deep, named_type, many_axes, attribute_of_references,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_weights_that_are_not_plain_arrays(tmp_path: Path, write: Callable[[h5py.File], None], kind: str) -> None:
    def within(file: h5py.File) -> None:
        file.require_group("layers/dense/vars")
        file.require_dataset("layers/dense/vars/0", (48, 3), "f4")
        write(file)

    if kind == "keras":
        path = archive(tmp_path / "a.keras", data=weights(within))
    else:
        path = legacy(tmp_path / "a.h5", write=within)
    assert refusal_code(path, tmp_path) == "unsafe-model"


def test_a_second_model_in_the_weights(tmp_path: Path) -> None:
    data = weights(lambda file: file.attrs.create("model_config", "{}"))
    assert refusal_code(archive(tmp_path / "a.keras", data=data), tmp_path) == "unsafe-model"


def test_huge_attributes(tmp_path: Path) -> None:
    path = legacy(tmp_path / "a.h5", " " * (17 << 20))
    assert refusal_code(path, tmp_path) == "unsafe-model"
