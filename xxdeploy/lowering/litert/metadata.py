"""Metadata of a LiteRT file as the Task Library and MediaPipe read them: the scaling of pixels, and the class names.

The format is ``metadata_schema.fbs`` of tflite-support (https://github.com/tensorflow/tflite-support), version 1.0.0 of
it: a FlatBuffer in the buffer ``TFLITE_METADATA``, and the label file in a zip archive after the model's last byte.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xxdeploy.optional import extra
from xxdeploy.runtime.engines.session import TensorInfo
from xxdeploy.runtime.image.preprocess import Preprocess

with extra("litert"):
    import flatbuffers

NAME = "TFLITE_METADATA"
LABELS = "labels.txt"
_VERSION = "1.0.0"
_FEATURE, _IMAGE = 1, 2
"""Kinds of ``ContentProperties``."""
_RGB, _GRAY = 1, 2
_NORMALIZATION = 1
_AXIS_LABELS = 2


@dataclass(frozen=True, slots=True)
class About:
    """What the file's readers are told: the ``name`` of the model, its preprocessing, and the names of its classes.

    ``preprocess`` is None for a model of several inputs or none that is a picture, ``labels`` are empty for a model
    that is no classifier.
    """

    name: str
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] = ()


def metadata_of(about: About, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> bytes:
    """Return the content of ``TFLITE_METADATA``.

    A picture is said to be one only where a reader of RGB pixels is right: not where the network reads float BGR.
    """
    writer = _Writer()
    read = [writer.tensor(tensor.name, *_picture(writer, about.preprocess, tensor)) for tensor in inputs]
    written = []
    for position, tensor in enumerate(outputs):
        files = [writer.labels()] if about.labels and position == 0 else []
        written.append(writer.tensor(tensor.name, writer.content(_FEATURE, writer.table(0)), [], files))
    graph = writer.table(7, {2: writer.list(read), 3: writer.list(written)})
    fields = {0: writer.text(about.name), 3: writer.list([graph]), 7: writer.text(_VERSION)}
    return writer.finish(writer.table(8, fields))


def with_labels(flat: bytes, labels: Sequence[str]) -> bytes:
    """Append the label file, one name a line, as a zip archive; the same labels give the same bytes."""
    whole = io.BytesIO(flat)
    with zipfile.ZipFile(whole, "a") as archive:  # its offsets count from the first byte of the model
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{label}\n" for label in labels))
    return whole.getvalue()


def _picture(writer: _Writer, preprocess: Preprocess | None, tensor: TensorInfo) -> tuple[int, list[int], list[int]]:
    """Return content, process units and files of an input."""
    scaling = None if preprocess is None else _scaling(preprocess)
    if preprocess is None or (scaling is None and tensor.dtype != "uint8"):
        return writer.content(_FEATURE, writer.table(0)), [], []
    image = writer.table(2, {}, {0: _RGB if preprocess.channels == 3 else _GRAY})
    units = []
    if scaling is not None:
        mean, deviation = map(writer.numbers, scaling)
        units = [writer.table(2, {1: writer.table(2, {0: mean, 1: deviation})}, {0: _NORMALIZATION})]
    return writer.content(_IMAGE, image), units, []


def _scaling(preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation of RGB pixels 0..255; None if the network reads BGR."""
    if preprocess.grid is not None:
        step, center = preprocess.grid
        return (center,), (1 / step,)
    grid = preprocess.channel_grid
    return None if grid is None or grid.flip else (grid.mean, grid.deviation)


class _Writer:
    """Tables of the metadata by the number of their fields, as ``metadata_schema.fbs`` counts them."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def text(self, text: str) -> int:
        return int(self._builder.CreateString(text))

    def numbers(self, numbers: Sequence[float]) -> int:
        self._builder.StartVector(4, len(numbers), 4)
        for number in reversed(numbers):
            self._builder.PrependFloat32(number)
        return int(self._builder.EndVector())

    def list(self, tables: Sequence[int]) -> int:
        self._builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self._builder.PrependUOffsetTRelative(table)
        return int(self._builder.EndVector())

    def table(self, size: int, fields: Mapping[int, int] | None = None, kinds: Mapping[int, int] | None = None) -> int:
        """Write a table of ``size`` fields: offsets of others, and numbers of one byte."""
        self._builder.StartObject(size)
        for slot, offset in (fields or {}).items():
            self._builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, kind in (kinds or {}).items():
            self._builder.PrependUint8Slot(slot, kind, 0)
        return int(self._builder.EndObject())

    def content(self, kind: int, properties: int) -> int:
        return self.table(3, {1: properties}, {0: kind})

    def labels(self) -> int:
        return self.table(4, {0: self.text(LABELS)}, {2: _AXIS_LABELS})

    def tensor(self, name: str, content: int, units: Sequence[int], files: Sequence[int]) -> int:
        fields = {0: self.text(name), 3: content}
        if units:
            fields[4] = self.list(units)
        if files:
            fields[6] = self.list(files)
        return self.table(7, fields)

    def finish(self, root: int) -> bytes:
        self._builder.Finish(root, b"M001")
        return bytes(self._builder.Output())
