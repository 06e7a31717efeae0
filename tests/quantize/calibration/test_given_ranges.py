"""Ranges from files: TensorRT's cache, a bundle's record."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from quantnets import batches, images, residual

from xxdeploy.errors import UsageError
from xxdeploy.quantize import calibrate
from xxdeploy.quantize.calibration.given_ranges import given_ranges
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
