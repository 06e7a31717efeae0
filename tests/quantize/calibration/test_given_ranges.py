"""Ranges from files: TensorRT's cache, a bundle's record."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantnets import batches, images, residual

from xxdeploy.errors import UsageError
from xxdeploy.quantize import calibrate
from xxdeploy.quantize.calibration.given_ranges import given_ranges, ranges_from_tensorrt_cache
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt
from xxdeploy.results import Ranges


def measured() -> Ranges:
    return calibrate(residual(), batches(images()), method="minmax", data_digest="0" * 64)


def cache(path: Path, ranges: Mapping[str, tuple[float, float]]) -> Path:
    steps = {name: struct.pack(">f", max(abs(low), abs(high)) / 127).hex() for name, (low, high) in ranges.items()}
    path.write_text("TRT-8501-EntropyCalibration2\n" + "".join(f"{name}: {step}\n" for name, step in steps.items()))
    return path


def test_a_cache_gives_the_model_that_its_ranges_give(tmp_path: Path) -> None:
    model, known = residual(), measured()
    given = given_ranges(cache(tmp_path / "old.cache", known.ranges), model)
    assert (given.method, given.model_digest) == ("tensorrt-EntropyCalibration2", model.digest)
    scheme = Scheme(signed=True, symmetric=True)
    assert quantize_for_tensorrt(model, given, scheme).size == quantize_for_tensorrt(model, known, scheme).size
    for name, (low, high) in known.ranges.items():
        assert given.ranges[name][1] == pytest.approx(max(abs(low), abs(high)), rel=1e-6)


def test_a_cache_of_another_graph_is_refused(tmp_path: Path) -> None:
    known = dict(measured().ranges)
    lost = next(iter(known))
    del known[lost]
    with pytest.raises(UsageError) as caught:
        given_ranges(cache(tmp_path / "x.cache", known), residual())
    assert caught.value.code == "ranges-incomplete"
    assert lost in caught.value.message


def test_the_record_of_a_bundle(tmp_path: Path) -> None:
    known = measured()
    path = tmp_path / "calibration.json"
    path.write_text(known.to_json())
    assert given_ranges(path, residual()).ranges == known.ranges
    with pytest.raises(UsageError) as caught:
        given_ranges(path, residual(seed=16))
    assert caught.value.code == "bad-ranges"
    assert "of another graph" in caught.value.message


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"method": 1}', b"null"])
def test_damaged_records(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        given_ranges(path, residual())
    assert caught.value.code == "bad-ranges"


def test_what_is_not_there(tmp_path: Path) -> None:
    for name, code in (("a.json", "bad-ranges"), ("a.cache", "no-tensorrt-cache"), ("", "no-tensorrt-cache")):
        with pytest.raises(UsageError) as caught:
            given_ranges(tmp_path / name, residual())
        assert caught.value.code == code


HEADER = b"TRT-8501-EntropyCalibration2\n"


def written(folder: Path, content: bytes) -> Path:
    path = folder / "int8.cache"
    path.write_bytes(content)
    return path


def test_scales_are_big_endian_floats_and_ranges_127_of_them(tmp_path: Path) -> None:
    scale = struct.unpack(">f", bytes.fromhex("3c010a14"))[0]
    content = HEADER + b"image: 3c010a14\n(Unnamed Layer* 3) [Convolution]_output: 3F800000\na: b: 00000000\n"
    read = ranges_from_tensorrt_cache(written(tmp_path, content))
    assert read.ranges == {
        "image": (-127 * scale, 127 * scale),
        "(Unnamed Layer* 3) [Convolution]_output": (-127.0, 127.0),
        "a: b": (0.0, 0.0),
    }
    assert scale == pytest.approx(0.00787594)
    assert (read.method, read.images) == ("tensorrt-EntropyCalibration2", 0)


def test_windows_line_ends_and_none_at_the_end(tmp_path: Path) -> None:
    content = HEADER.replace(b"\n", b"\r\n") + b"a: 3f800000\r\nb: 3f800000"
    assert set(ranges_from_tensorrt_cache(written(tmp_path, content)).ranges) == {"a", "b"}


@pytest.mark.parametrize(
    "content",
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
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        ranges_from_tensorrt_cache(written(tmp_path, content))
    assert caught.value.code == "bad-tensorrt-cache"
    assert caught.value.message.isprintable()


def test_too_large_a_file_is_not_read_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="larger"):
        ranges_from_tensorrt_cache(written(tmp_path, HEADER + b"a: 3f800000\n" * 10), largest=100)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError) as caught:
            ranges_from_tensorrt_cache(path)
        assert caught.value.code == "no-tensorrt-cache"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are POSIX")
@pytest.mark.parametrize(("name", "code"), [("pipe.json", "bad-ranges"), ("pipe.cache", "no-tensorrt-cache")])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str, code: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        given_ranges(tmp_path / name, residual())
    assert caught.value.code == code


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_rubbish_behind_a_header_gives_ranges_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("cache"), HEADER + content)
    try:
        read = ranges_from_tensorrt_cache(path)
    except UsageError:
        return
    assert all(low == -high for low, high in read.ranges.values())
