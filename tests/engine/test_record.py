"""Engines as files, and timing caches."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from xxdeploy.bundle.oms import sign_oms
from xxdeploy.bundle.sign import generate_key, sign
from xxdeploy.engine import Batch, Engine, EngineOptions
from xxdeploy.engine.record import engine_writable, load_timing, save_timing, timing_path, write_engine
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime.engines.engine_file import read_engine


def engine(content: bytes = b"plan", *, strip: bool = False) -> Engine:
    options = EngineOptions(precision="int8", gpus=("sm86",), batch=Batch(1, 2, 4), strip=strip)
    return Engine(content, options, "1.7.1", "ab" * 32, {"shares": {"int8": 1.0}, "depth": "network"})


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    folder = write_engine(engine(), tmp_path / "deep" / "engine")
    record, plan = read_engine(folder)
    assert plan == b"plan"
    assert (record.target, record.version) == ("tensorrt-rtx", "1.7.1")
    assert record.options["batch"] == [1, 2, 4]
    assert record.proof["shares"] == {"int8": 1.0}
    assert sorted(path.name for path in folder.iterdir()) == ["engine.json", "engine.plan"]


def test_an_engine_is_replaced_only_by_force_and_nothing_else_ever(tmp_path: Path) -> None:
    folder = write_engine(engine(), tmp_path / "engine")
    with pytest.raises(UsageError) as caught:
        write_engine(engine(b"other"), folder)
    assert caught.value.code == "output-exists"
    write_engine(engine(b"other"), folder, force=True)
    assert read_engine(folder)[1] == b"other"
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError) as caught:
        write_engine(engine(), folder, force=True)
    assert caught.value.code == "output-not-an-engine"


def test_signatures_of_the_old_engine_go(tmp_path: Path) -> None:
    folder = write_engine(engine(), tmp_path / "engine")
    generate_key(tmp_path / "oms", kind="oms")
    generate_key(tmp_path / "own")
    signed = sign_oms(folder, tmp_path / "oms.key")
    assert (signed.files, signed.path) == (2, folder / "model.sig")
    payload = json.loads(base64.b64decode(json.loads(signed.path.read_text())["dsseEnvelope"]["payload"]))
    digests = {resource["name"]: resource["digest"] for resource in payload["predicate"]["resources"]}
    assert digests == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("engine.json", "engine.plan")
    }
    sign(folder, tmp_path / "own.key", version=1)
    write_engine(engine(b"other"), folder, force=True)
    assert sorted(path.name for path in folder.iterdir()) == ["engine.json", "engine.plan"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError) as caught:
        engine_writable(tmp_path / "file", force=True)
    assert caught.value.code == "output-unwritable"


def test_a_plan_beside_the_record_of_another_is_refused(tmp_path: Path) -> None:
    """As a run leaves it that is killed between the two files."""
    folder = write_engine(engine(), tmp_path / "engine")
    (folder / "engine.plan").write_bytes(b"else")
    with pytest.raises(BundleError) as caught:
        read_engine(folder)
    assert caught.value.code == "file-hash"


def test_timings_are_kept_by_version_and_card(tmp_path: Path) -> None:
    here = timing_path(tmp_path / "cache", version="11.4", gpu="A 8.6")
    assert load_timing(here) is None
    save_timing(here, b"timings")
    assert load_timing(here) == b"timings"
    assert load_timing(timing_path(tmp_path / "cache", version="11.5", gpu="A 8.6")) is None
    assert load_timing(timing_path(tmp_path / "cache", version="11.4", gpu="B 8.9")) is None
    assert [path.name for path in here.parent.iterdir()] == [here.name]


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("x")
    save_timing(tmp_path / "file" / "timing.cache", b"timings")
    assert "cannot be written" in caplog.text
