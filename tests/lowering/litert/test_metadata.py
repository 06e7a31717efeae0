"""The metadata of the Task Library, read by the field numbers of its schema, and the zip archive of the labels."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

pytest.importorskip("ai_edge_litert", reason="pip install 'xxdeploy[litert]': there is no LiteRT to run the files")

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types
from flatbuffers.table import Table
from litertnets import network, pictures, weights
from quantnets import run

from xxdeploy.lowering.litert.metadata import LABELS, NAME, About, metadata_of, with_labels
from xxdeploy.lowering.litert.write import to_litert
from xxdeploy.runtime.engines.litert import LitertSession
from xxdeploy.runtime.engines.session import TensorInfo
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.scaling import named_scaling

OUTPUT = [TensorInfo("probabilities", "float32", (1, 3))]


class Reader(Table):  # type: ignore[misc]
    """A table of a FlatBuffer whose fields are asked for by their number."""

    def at(self, slot: int) -> int:
        return int(self.Offset(4 + 2 * slot))

    def byte(self, slot: int) -> int:
        return int(self.Get(number_types.Uint8Flags, self.at(slot) + self.Pos)) if self.at(slot) else 0

    def text(self, slot: int) -> str:
        return bytes(self.String(self.at(slot) + self.Pos)).decode()

    def table(self, slot: int) -> Reader:
        return Reader(self.Bytes, self.Indirect(self.at(slot) + self.Pos))

    def tables(self, slot: int) -> list[Reader]:
        if not self.at(slot):
            return []
        start, count = self.Vector(self.at(slot)), self.VectorLen(self.at(slot))
        return [Reader(self.Bytes, self.Indirect(start + 4 * index)) for index in range(count)]

    def numbers(self, slot: int) -> list[float]:
        start, count = self.Vector(self.at(slot)), self.VectorLen(self.at(slot))
        return [self.Get(number_types.Float32Flags, start + 4 * index) for index in range(count)]


def root(content: bytes) -> Reader:
    assert content[4:8] == b"M001"
    buffer = bytearray(content)
    return Reader(buffer, encode.Get(number_types.UOffsetTFlags.packer_type, buffer, 0))


def read(mode: str, dtype: str = "float32", **more: Any) -> tuple[Reader, Reader]:
    """Return the metadata of the input and the output of a classifier."""
    inputs = [TensorInfo("image", dtype, (1, 8, 8, 3))]
    model = root(metadata_of(About("net", Preprocess(8, 8, mode=mode, **more), ("a", "b", "c")), inputs, OUTPUT))
    assert (model.text(0), model.text(7)) == ("net", "1.0.0")
    (graph,) = model.tables(3)
    (image,), (output,) = graph.tables(2), graph.tables(3)
    assert (image.text(0), output.text(0)) == ("image", "probabilities")
    return image, output


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("mode", ["tf", "torch", "none"])
def test_mean_and_deviation_are_those_of_the_preprocessing(mode: str, dtype: str) -> None:
    image, output = read(mode, dtype)
    content = image.table(3)
    assert content.byte(0) == 2  # ImageProperties
    assert content.table(1).byte(0) == 1  # RGB
    (unit,) = image.tables(4)
    assert unit.byte(0) == 1  # NormalizationOptions
    mean, deviation = (np.array(unit.table(1).numbers(slot), np.float32) for slot in (0, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose((pixels - mean) / deviation, Preprocess(8, 8, mode=mode).normalize(pixels), atol=1e-4)
    (file,) = output.tables(6)
    assert (file.text(0), file.byte(2)) == (LABELS, 2)  # TENSOR_AXIS_LABELS


def test_a_network_that_reads_bgr_in_float_is_not_told_to_be_fed_rgb() -> None:
    for image, _ in (read("caffe"), read("custom", scaling=named_scaling("tf-bgr", 3))):
        assert image.table(3).byte(0) == 1  # FeatureProperties
        assert image.tables(4) == []
    image, _ = read("caffe", "uint8")  # the file itself exchanges the channels
    assert image.table(3).byte(0) == 2
    assert image.tables(4) == []


def test_the_file_holds_both_and_still_runs() -> None:
    model = network("c = Conv(x, w) p = GlobalAveragePool(c) y = Flatten(p)", "float[n, 4]", {"w": weights(4, 3, 3, 3)})
    labels = ("tench", "goldfish", "grand piano", "größe")
    flat = to_litert(model, about=About("net", Preprocess(9, 8), labels))
    assert flat == to_litert(model, about=About("net", Preprocess(9, 8), labels))
    batch = pictures(model)
    np.testing.assert_allclose(LitertSession(flat, threads=1).run(batch), run(model, batch), rtol=1e-4, atol=1e-5)
    with zipfile.ZipFile(io.BytesIO(flat)) as archive:
        assert archive.namelist() == [LABELS]
        assert archive.read(LABELS).decode().splitlines() == list(labels)
    table = schema.Model.GetRootAs(flat, 0)
    entries = {table.Metadata(i).Name().decode(): table.Metadata(i).Buffer() for i in range(table.MetadataLength())}
    assert root(table.Buffers(entries[NAME]).DataAsNumpy().tobytes()).text(0) == "net"


def test_without_labels_nothing_is_appended() -> None:
    model = network("y = Relu(x)", "float[n, 3, 9, 8]")
    assert not zipfile.is_zipfile(io.BytesIO(to_litert(model, about=About("net", Preprocess(9, 8)))))
    assert with_labels(b"TFL3", ("a",)).startswith(b"TFL3")
