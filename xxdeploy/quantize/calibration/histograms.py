"""The result of one pass over the calibration images, from which every calibrator chooses ranges.

A file of it is one line of JSON (digests of model and images, and the SHA-256 of the rest) and the compressed numbers.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xxdeploy.errors import ConversionError
from xxdeploy.quantize.calibration.calibrators import calibrator
from xxdeploy.quantize.calibration.collect import BINS, DECAY, SAMPLE, Distribution
from xxdeploy.results import Ranges

_FORMAT = f"xxdeploy histograms 1: {BINS} bins, {SAMPLE} samples, decay {DECAY}"
_ROW = np.dtype([("extremes", "<f8", 4), ("width", "<f8"), ("zeros", "<i8"), ("counts", "<i8", 2 * BINS)])


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """The distribution of each tensor that is to be INT8, over ``images`` images; about 64 KiB per tensor.

    The two digests are those of :class:`xxdeploy.results.Ranges`.
    """

    model_digest: str
    data_digest: str
    images: int
    tensors: Mapping[str, Distribution] = field(repr=False)

    def to_bytes(self) -> bytes:
        """Serialize deterministically: the same histograms become the same bytes."""
        rows = np.zeros(len(self.tensors), _ROW)
        for row, values in zip(rows, self.tensors.values(), strict=True):
            row["extremes"] = values.low, values.high, values.moving_low, values.moving_high
            row["width"], row["zeros"], row["counts"] = values.width, values.zeros, values.counts
        body = zlib.compress(rows.tobytes(), 1)
        head = {
            "format": _FORMAT,
            "model_digest": self.model_digest,
            "data_digest": self.data_digest,
            "images": self.images,
            "tensors": list(self.tensors),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        return json.dumps(head).encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, content: bytes) -> Histograms:
        """Read the bytes of :meth:`to_bytes`.

        Raises ``ConversionError`` (``damaged-histograms``: ``content`` is not such a file, of another version, cut
        short or altered).
        """
        try:
            line, _, body = content.partition(b"\n")
            head: dict[str, Any] = json.loads(line)
            if head["format"] != _FORMAT:
                raise ValueError(f"the format is {head['format']!r}")
            if head["sha256"] != hashlib.sha256(body).hexdigest():
                raise ValueError("the contents do not match their digest")
            images, names = int(head["images"]), [str(name) for name in head["tensors"]]
            size = len(names) * _ROW.itemsize
            rows = np.frombuffer(zlib.decompressobj().decompress(body, size), _ROW, len(names))
            tensors = {name: _distribution(images, row) for name, row in zip(names, rows, strict=True)}
            return cls(str(head["model_digest"]), str(head["data_digest"]), images, tensors)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, zlib.error) as error:
            raise ConversionError(
                f"the calibration histograms cannot be read: {error}",
                hint="delete the file and calibrate again",
                code="damaged-histograms",
            ) from error


def choose_ranges(histograms: Histograms, method: str) -> Ranges:
    """Return the range of each tensor by the calibrator ``method``, one of :data:`METHODS`.

    Raises ``UsageError`` (``unknown-calibrator``).
    """
    choose = calibrator(method)
    ranges = {name: choose(values) for name, values in histograms.tensors.items()}
    return Ranges(method, histograms.model_digest, histograms.data_digest, histograms.images, ranges)


def _distribution(images: int, row: Any) -> Distribution:
    low, high, moving_low, moving_high = row["extremes"].tolist()
    width, zeros, counts = float(row["width"]), int(row["zeros"]), row["counts"].astype(np.int64)
    return Distribution(images, low, high, moving_low, moving_high, width, zeros, counts)
