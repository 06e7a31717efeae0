"""TensorRT's calibration cache: what it holds, and files that only pretend."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xxdeploy.errors import UsageError
from xxdeploy.quantize.tensorrt import cache_file
from xxdeploy.quantize.tensorrt.cache_file import ranges_from_tensorrt_cache

HEADER = b"TRT-8501-EntropyCalibration2\n"


def written(folder: Path, data: bytes) -> Path:
    path = folder / "int8.cache"
    path.write_bytes(data)
    return path


def test_scales_are_big_endian_floats_and_ranges_127_of_them(tmp_path: Path) -> None:
    scale = struct.unpack(">f", bytes.fromhex("3c010a14"))[0]
    data = HEADER + b"image: 3c010a14\n(Unnamed Layer* 3) [Convolution]_output: 3F800000\na: b: 00000000\n"
    read = ranges_from_tensorrt_cache(written(tmp_path, data), model_digest="m")
    assert read.ranges == {
        "image": (-127 * scale, 127 * scale),
        "(Unnamed Layer* 3) [Convolution]_output": (-127.0, 127.0),
        "a: b": (0.0, 0.0),
    }
    assert scale == pytest.approx(0.00787594)
    assert (read.method, read.images, read.model_digest) == ("tensorrt-EntropyCalibration2", 0, "m")


def test_windows_line_ends_and_none_at_the_end(tmp_path: Path) -> None:
    data = HEADER.replace(b"\n", b"\r\n") + b"a: 3f800000\r\nb: 3f800000"
    assert set(ranges_from_tensorrt_cache(written(tmp_path, data)).ranges) == {"a", "b"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        HEADER,
        b"image: 3c010a14\n",
        b"TRT-x-Entropy\na: 3f800000\n",
        HEADER + b"a: 3f80000\n",
        HEADER + b"a: 3f8000000\n",
        HEADER + b"a: 3f80000g\n",
        HEADER + b"a 3f800000\n",
        HEADER + b": 3f800000\n",
        HEADER + b"a: 3f800000\na: 3f800000\n",
        HEADER + b"a: 7f800000\n",
        HEADER + b"a: 7fc00000\n",
        HEADER + b"a: bf800000\n",
        HEADER + b"a\x1b[2J: 3f800000\n",
        HEADER + b"\n\na: 3f800000\n",
        HEADER + b"a" * 2000 + b": 3f800000\n",
        HEADER + b"\xff: 3f800000\n",
        b"\x00" * 100,
    ],
)
def test_anything_else_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        ranges_from_tensorrt_cache(written(tmp_path, data))
    assert caught.value.code == "bad-tensorrt-cache"
    assert caught.value.message.isprintable()


def test_too_large_a_file_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_file, "LARGEST_FILE", 100)
    with pytest.raises(UsageError, match="larger"):
        ranges_from_tensorrt_cache(written(tmp_path, HEADER + b"a: 3f800000\n" * 10))


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError) as caught:
            ranges_from_tensorrt_cache(path)
        assert caught.value.code == "no-tensorrt-cache"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_behind_a_header_gives_ranges_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("cache"), HEADER + data)
    try:
        read = ranges_from_tensorrt_cache(path)
    except UsageError:
        return
    assert all(low == -high for low, high in read.ranges.values())
