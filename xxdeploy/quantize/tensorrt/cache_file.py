"""Ranges from a calibration cache of TensorRT 7 to 10 (``.cache``), which TensorRT 11 no longer reads.

The first line names the calibrator, each other line the scale of one tensor::

    TRT-8501-EntropyCalibration2
    image: 3c010a14
    Conv1/Relu: 3cde5a80

The eight hexadecimal digits are a float32, most significant byte first: the step of a symmetric INT8 value, so the
range is 127 steps on either side.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.results import Ranges

LARGEST_FILE = 16 << 20
_HEADER = re.compile(r"TRT-[0-9]{1,12}-([A-Za-z0-9]{1,64})", re.ASCII)
_LINE = re.compile(r"(?P<name>.{1,1024}): (?P<scale>[0-9a-fA-F]{8})", re.ASCII)


def ranges_from_tensorrt_cache(path: Path, *, model_digest: str = "") -> Ranges:
    """Read a calibration cache, with the tensor names of the ONNX graph that is to be quantized.

    A range of zero width (a tensor that was zero in every image) stays one; ``images`` is 0, since a cache does not
    state their number, and ``data_digest`` is that of the file. Raises ``UsageError`` (``no-tensorrt-cache``: it cannot
    be read; ``bad-tensorrt-cache``: a line has another form, a tensor occurs twice, or a scale is negative or not
    finite).
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"there is no calibration cache {path}: {error.strerror or error}",
            hint="give the file that TensorRT's calibrator wrote",
            code="no-tensorrt-cache",
        ) from error
    if len(data) > LARGEST_FILE:
        raise _bad(path, "is larger than 16 MiB")
    try:
        lines = data.decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise _bad(path, "is not text") from error
    header = _HEADER.fullmatch(lines[0])
    if header is None:
        raise _bad(path, f"does not begin with TRT-VERSION-ALGORITHM but {lines[0][:40]!r}")
    ranges: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(lines[1:], 2):
        match = _LINE.fullmatch(line)
        if match is None or not match["name"].isprintable():
            raise _bad(path, f"line {number} is not 'tensor: 8 hexadecimal digits' but {line[:60]!r}")
        (scale,) = struct.unpack(">f", bytes.fromhex(match["scale"]))
        if not math.isfinite(scale) or scale < 0:
            raise _bad(path, f"line {number} has the scale {scale}")
        if match["name"] in ranges:
            raise _bad(path, f"line {number} names {match['name'][:60]!r} a second time")
        ranges[match["name"]] = (-127 * scale, 127 * scale)
    if not ranges:
        raise _bad(path, "lists no tensors")
    return Ranges(
        method=f"tensorrt-{header[1]}",
        model_digest=model_digest,
        data_digest=hashlib.sha256(data).hexdigest(),
        images=0,
        ranges=ranges,
    )


def _bad(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"calibration cache {path} {problem}",
        hint="it must be what TensorRT's IInt8Calibrator wrote, unchanged",
        code="bad-tensorrt-cache",
    )
