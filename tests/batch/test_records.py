from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from job_parts import job

from xxdeploy.batch.records import JobRecord, Records, manifest_digest, only_run
from xxdeploy.errors import UsageError

JOB = job("a")


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """The records of a folder that has the bundle ``a``."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text("{}")
    return Records(tmp_path)


def done(records: Records, **changes: object) -> JobRecord:
    record = JobRecord("a", "d", "done", 1.5, 10**9, manifest_digest(records.out / "a"), {"network": "lenet"})
    return replace(record, **changes)  # type: ignore[arg-type]


def test_a_record_is_read_as_it_was_written(records: Records) -> None:
    assert records.read(JOB) is None
    records.write(JOB, done(records))
    assert records.read(JOB) == done(records)
    path = records.folder / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added": "by a later version"}))
    assert records.read(JOB) == done(records)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "b", "digest": "d", "state": "done"}', "[" * 100_000])
def test_a_damaged_record_is_none(records: Records, text: str) -> None:
    records.folder.mkdir()
    (records.folder / "a.json").write_text(text)
    assert records.read(JOB) is None
    assert not records.owns(JOB)


def test_a_job_is_finished_while_its_digest_and_bundle_are_the_same(records: Records) -> None:
    records.write(JOB, done(records))
    assert records.finished(JOB, "d") == done(records)
    assert records.finished(JOB, "another") is None
    for change in ({"state": "failed"}, {"card": None}, {"manifest": "another"}):
        records.write(JOB, done(records, **change))
        assert records.finished(JOB, "d") is None


def test_a_folder_is_owned_if_it_is_absent_or_of_an_earlier_run(records: Records) -> None:
    assert not records.owns(JOB)
    assert records.owns(job("absent"))
    records.write(JOB, done(records, state="failed"))
    assert records.owns(JOB)
    (records.out / "a" / "manifest.json").write_text("changed")
    assert not records.owns(JOB)
    records.write(JOB, done(records, state="begun"))
    assert records.owns(JOB)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(UsageError) as caught, only_run(tmp_path):
        pass
    assert caught.value.code == "matrix-running"
    with only_run(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught, only_run(tmp_path / "file"):
        pass
    assert caught.value.code == "output-unwritable"
