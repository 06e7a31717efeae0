"""Ranges that are already measured: a calibration cache of TensorRT, or ``calibration.json`` of a bundle."""

from __future__ import annotations

import errno
import hashlib
import math
import re
import struct
from dataclasses import replace
from pathlib import Path

from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.files import read_bounded
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import Ranges

LARGEST_RECORD, LARGEST_CACHE = 64 << 20, 16 << 20
_HEADER = re.compile(r"TRT-[0-9]{1,12}-([A-Za-z0-9]{1,64})", re.ASCII)
_LINE = re.compile(r"(?P<name>.{1,1024}): (?P<scale>[0-9a-fA-F]{8})", re.ASCII)
_NAMED = 3


def given_ranges(path: Path, model: OnnxModel) -> Ranges:
    """Read the ranges of ``model`` from a ``.json`` that a bundle holds, or from a calibration cache (any other file).

    Raises ``UsageError`` (``no-tensorrt-cache``, ``bad-tensorrt-cache``; ``bad-ranges``: the record is damaged or of
    another model; ``ranges-incomplete``: it lacks tensors that the layout needs).
    """
    ranges = _record(path, model) if path.suffix.lower() == ".json" else ranges_from_tensorrt_cache(path)
    needed = plan_layout(Graph(model), Scheme()).measured
    if missing := [name for name in needed if name not in ranges.ranges]:
        some = ", ".join(missing[:_NAMED])
        raise UsageError(
            f"{path.name} has no range for {len(missing)} of {len(needed)} tensors, such as {some}",
            hint="it must be made from the ONNX file that xxdeploy exports of this network: ranges go by tensor name",
            code="ranges-incomplete",
        )
    return replace(ranges, model_digest=model.digest)


def _record(path: Path, model: OnnxModel) -> Ranges:
    try:
        ranges = Ranges.from_json(read_bounded(path, LARGEST_RECORD).decode())
    except OSError as error:
        too_large = error.errno == errno.EFBIG
        problem = "is larger than 64 MiB" if too_large else f"cannot be read: {error.strerror or error}"
        raise _bad_record(path, problem) from error
    except UnicodeDecodeError as error:
        raise _bad_record(path, "is not text") from error
    except XXDeployError as error:
        raise _bad_record(path, error.message) from error
    if ranges.model_digest != model.digest:
        raise _bad_record(path, f"is of another graph ({ranges.model_digest[:12]}, not {model.digest[:12]})")
    return ranges


def ranges_from_tensorrt_cache(path: Path, *, largest: int = LARGEST_CACHE) -> Ranges:
    """Read a calibration cache of TensorRT 7 to 10 (``.cache``), which TensorRT 11 no longer reads.

    The first line names the calibrator, each other line a tensor of the ONNX graph that is to be quantized::

        TRT-8501-EntropyCalibration2
        image: 3c010a14
        Conv1/Relu: 3cde5a80

    The eight hexadecimal digits are a float32, most significant byte first: the step of a symmetric INT8 value, so the
    range is 127 steps on either side. A range of zero width (a tensor that was zero in every image) stays one;
    ``images`` is 0, since a cache does not state their number, and ``data_digest`` is that of the file. Raises
    ``UsageError`` (``no-tensorrt-cache``: it cannot be read; ``bad-tensorrt-cache``: it has more than ``largest``
    bytes, a line has another form, a tensor occurs twice, or a scale is negative or not finite).
    """
    try:
        content = read_bounded(path, largest)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _bad_cache(path, f"is larger than {largest >> 20} MiB") from error
        raise UsageError(
            f"there is no calibration cache {path}: {error.strerror or error}",
            hint="give the file that TensorRT's calibrator wrote",
            code="no-tensorrt-cache",
        ) from error
    try:
        lines = content.decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise _bad_cache(path, "is not text") from error
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise _bad_cache(path, f"does not begin with TRT-VERSION-ALGORITHM but {lines[0][:40]!r}")
    ranges: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(lines[1:], 2):
        match = _LINE.fullmatch(line)
        if match is None or not match["name"].isprintable():
            raise _bad_cache(path, f"line {number} is not 'tensor: 8 hexadecimal digits' but {line[:60]!r}")
        (scale,) = struct.unpack(">f", bytes.fromhex(match["scale"]))
        if not math.isfinite(scale) or scale < 0:
            raise _bad_cache(path, f"line {number} has the scale {scale}")
        if match["name"] in ranges:
            raise _bad_cache(path, f"line {number} names {match['name'][:60]!r} a second time")
        ranges[match["name"]] = (-127 * scale, 127 * scale)
    if not ranges:
        raise _bad_cache(path, "lists no tensors")
    return Ranges(f"tensorrt-{header[1]}", "", hashlib.sha256(content).hexdigest(), 0, ranges)


def _bad_cache(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"calibration cache {path} {problem}",
        hint="it must be what TensorRT's IInt8Calibrator wrote, unchanged",
        code="bad-tensorrt-cache",
    )


def _bad_record(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"the ranges in {path} cannot be used: {problem}",
        hint="--ranges takes a TensorRT calibration cache, or calibration.json of a bundle of the same network",
        code="bad-ranges",
    )
