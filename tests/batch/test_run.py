"""The schedule, what is kept, and what is repeated; with a stand-in for the export."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from job_parts import CHILD, RESOURCES, FakeExports, job

from xxdeploy.batch.jobs import Job
from xxdeploy.batch.process import Ended
from xxdeploy.batch.records import JobRecord
from xxdeploy.batch.run import Resources, default_resources, free_memory, run_jobs
from xxdeploy.errors import UsageError


@pytest.fixture
def fake(tmp_path: Path) -> FakeExports:
    return FakeExports(tmp_path)


def states(records: Sequence[JobRecord]) -> list[str]:
    return ["kept" if record.again else record.state for record in records]


def run(
    fake: FakeExports, jobs: Sequence[Job], *, resources: Resources = RESOURCES, force: bool = False
) -> tuple[JobRecord, ...]:
    return run_jobs(jobs, fake.root / "out", resources, force=force, execute=fake)


def test_each_gets_a_bundle_a_record_and_a_card(fake: FakeExports) -> None:
    seen: list[str] = []
    jobs = [job("a"), job("b")]
    records = run_jobs(
        jobs, fake.root / "out", RESOURCES, execute=fake, on_job=lambda _, record: seen.append(record.state)
    )
    assert states(records) == ["done", "done"]
    assert [record.name for record in records] == ["a", "b"]
    assert seen == ["done", "done"]
    for name in "ab":
        assert (fake.root / "out" / name / "manifest.json").is_file()
        card = json.loads((fake.root / "out" / "results" / f"{name}.json").read_text())
        assert card["network"] == "lenet"
        assert json.loads((fake.root / "out" / ".matrix" / f"{name}.json").read_text())["state"] == "done"


def test_a_failure_does_not_stop_the_rest(fake: FakeExports) -> None:
    records = run(fake, [job("a", "error"), job("b", "crash"), job("c")])
    assert states(records) == ["failed", "failed", "done"]
    assert [record.error["code"] for record in records[:2] if record.error] == ["parity", "crashed"]
    assert not (fake.root / "out" / "results" / "a.json").exists()


def test_what_is_done_is_not_repeated_and_what_failed_is(fake: FakeExports) -> None:
    run(fake, [job("a"), job("b", "error")])
    assert states(run(fake, [job("a"), job("b", "error")])) == ["kept", "failed"]
    assert sorted(fake.calls) == ["a", "b", "b"]
    assert states(run(fake, [job("a")], force=True)) == ["done"]
    assert sorted(fake.calls) == ["a", "a", "b", "b"]


def test_other_options_or_a_bundle_that_is_gone_or_changed_repeat_it(fake: FakeExports) -> None:
    run(fake, [job("a")])
    assert states(run(fake, [job("a", seed=1)])) == ["done"]
    (fake.root / "out" / "a" / "manifest.json").unlink()
    (fake.root / "out" / "a" / "model.onnx").unlink()
    (fake.root / "out" / "a").rmdir()
    assert states(run(fake, [job("a", seed=1)])) == ["done"]
    assert fake.calls == ["a", "a", "a"]


def test_a_damaged_record_counts_as_none(fake: FakeExports) -> None:
    run(fake, [job("a")])
    (fake.root / "out" / ".matrix" / "a.json").write_text('{"name": "a", "digest"')
    (record,) = run(fake, [job("a")])
    assert record.error is not None
    assert record.error["code"] == "output-exists"  # nobody knows whose that bundle is
    assert states(run(fake, [job("a")], force=True)) == ["done"]


def test_a_card_that_was_deleted_comes_back(fake: FakeExports) -> None:
    run(fake, [job("a")])
    path = fake.root / "out" / "results" / "a.json"
    text = path.read_text()
    path.unlink()
    run(fake, [job("a")])
    assert path.read_text() == text
    assert fake.calls == ["a"]


def test_a_bundle_of_somebody_else_is_not_replaced(fake: FakeExports) -> None:
    mine = fake.root / "out" / "a"
    mine.mkdir(parents=True)
    (mine / "manifest.json").write_text("mine")
    first, second = run(fake, [job("a"), job("b")])
    assert first.error is not None
    assert (first.error["code"], second.state) == ("output-exists", "done")
    assert (mine / "manifest.json").read_text() == "mine"
    assert states(run(fake, [job("a")])) == ["failed"]  # still
    assert states(run(fake, [job("a")], force=True)) == ["done"]


def test_a_failure_after_success_leaves_the_bundle_ours(fake: FakeExports) -> None:
    run(fake, [job("a")])
    assert states(run(fake, [job("a", "error")])) == ["failed"]
    assert states(run(fake, [job("a", seed=3)])) == ["done"]


def test_a_bundle_without_what_a_card_needs_fails(fake: FakeExports) -> None:
    (fake.template / "manifest.json").write_text("{}")
    (record,) = run(fake, [job("a")])
    assert record.error is not None
    assert record.error["code"] == "no-result"


def test_a_folder_is_for_one_run(fake: FakeExports) -> None:
    def inner(jobs: Sequence[Job], out: Path, logs: Path, resources: Resources) -> Iterator[tuple[Job, Ended]]:
        with pytest.raises(UsageError) as caught:
            run(fake, [job("b")])
        assert caught.value.code == "matrix-running"
        return fake(jobs, out, logs, resources)

    assert states(run_jobs([job("a")], fake.root / "out", RESOURCES, execute=inner)) == ["done"]
    assert states(run(fake, [job("b")])) == ["done"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        run_jobs([job("a")], tmp_path / "file" / "out", RESOURCES)
    assert caught.value.code == "output-unwritable"


@pytest.mark.parametrize(
    ("resources", "most"),
    [
        (replace(RESOURCES, parallel=3), 3),
        (replace(RESOURCES, parallel=1), 1),
        (replace(RESOURCES, parallel=8, memory=2_500_000_000, job_memory=1_000_000_000), 2),
        (replace(RESOURCES, parallel=8, memory=1_000_000_000, job_memory=5_000_000_000), 1),
    ],
)
def test_no_more_at_once_than_jobs_and_memory(fake: FakeExports, resources: Resources, most: int) -> None:
    """Each waits for a file that appears when as many have begun as may: then no other may have begun."""
    go = fake.root / "go"
    jobs = [job(f"c{index}", f"wait{go}") for index in range(4)]
    began: list[int] = []

    def executing(todo: Sequence[Job], out: Path, logs: Path, given: Resources) -> Iterator[tuple[Job, Ended]]:
        original = time.sleep

        def sleep(seconds: float) -> None:
            if len(fake.calls) >= most and not go.exists():
                original(0.3)
                began.append(len(fake.calls))
                go.touch()
            original(0.02)

        patch = pytest.MonkeyPatch()
        patch.setattr(time, "sleep", sleep)
        try:
            yield from fake(todo, out, logs, given)
        finally:
            patch.undo()

    assert states(run_jobs(jobs, fake.root / "out", resources, execute=executing)) == ["done"] * 4
    assert began == [most]


def test_what_a_killed_run_had_done_is_kept(fake: FakeExports) -> None:
    """The whole process group of a run is killed after its first of three bundles; the next run makes two."""
    go = fake.root / "go"
    parent = f"""
import sys
sys.path[:0] = {[str(CHILD.parent)]!r}
from pathlib import Path
from job_parts import FakeExports, RESOURCES, job
from dataclasses import replace
import job_parts
fake = FakeExports.__new__(FakeExports)
fake.root, fake.template, fake.log = Path({str(fake.root)!r}), Path({str(fake.template)!r}), Path({str(fake.log)!r})
from xxdeploy.batch.run import run_jobs
jobs = [job("a"), job("b", {f"wait{go}"!r}), job("c")]
run_jobs(jobs, fake.root / "out", replace(RESOURCES, parallel=1), execute=fake,
           on_job=lambda each, record: print(each.name, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "a\n"
        while fake.calls != ["a", "b"]:
            time.sleep(0.02)
        process.kill()
    os.kill(fake.processes[1], signal.SIGKILL)  # the stand-in does not end with its parent, as an export does
    go.touch()
    assert json.loads((fake.root / "out" / ".matrix" / "b.json").read_text())["state"] == "begun"
    assert states(run(fake, [job("a"), job("b", f"wait{go}"), job("c")])) == ["kept", "done", "done"]
    assert sorted(fake.calls) == ["a", "b", "b", "c"]


def test_an_exception_ends_what_runs(fake: FakeExports) -> None:
    def stop(_job: Job, _record: JobRecord) -> None:
        while len(fake.calls) < 2:
            time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job("a"), job("b", "sleep60")], fake.root / "out", RESOURCES, execute=fake, on_job=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(fake.processes[-1], 0)


@pytest.mark.parametrize(
    "resources", [{"parallel": 0}, {"memory": 0}, {"job_memory": -1}, {"timeout": 0}, {"timeout": float("nan")}]
)
def test_resources_that_allow_nothing(resources: dict[str, float]) -> None:
    with pytest.raises(UsageError) as caught:
        default_resources(**resources)  # type: ignore[arg-type]
    assert caught.value.code == "bad-limits"


def test_the_limits_of_this_machine() -> None:
    resources = default_resources()
    assert 1 <= resources.parallel <= (os.cpu_count() or 1)
    assert 0 < resources.memory < free_memory() * 1.2
    assert resources.bytes_for(job("a")) <= resources.memory
