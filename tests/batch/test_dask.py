"""The batch and the evaluation on Dask distributed: a cluster of processes here, of which one is killed."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from job_parts import RESOURCES, FakeExports, job

from xxdeploy.batch.jobs import Job
from xxdeploy.batch.records import JobRecord
from xxdeploy.batch.run import run_jobs
from xxdeploy.datasets import Labels, open_images
from xxdeploy.datasets.images import EVALUATION_BATCH, ImageSet
from xxdeploy.diagnose.verify_bundle import verify_bundle
from xxdeploy.errors import BundleError, UsageError, VerificationError
from xxdeploy.results import Accuracy, Progress
from xxdeploy.runtime import load
from xxdeploy.verify import evaluate

distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
cluster_of = pytest.importorskip("xxdeploy.batch.dask")

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="a worker is killed by signal"),
    pytest.mark.filterwarnings("default"),  # Dask's own, of many kinds, when a worker goes away
]


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A scheduler and two worker processes, which are begun again when they are killed."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as made,
        distributed.Client(made) as client,
    ):
        client.wait_for_workers(2, timeout=30)
        yield client


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.make(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """203 pictures: no whole number of batches."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("labelled")
    random = np.random.default_rng(7)
    for index in range(203):
        folder = root / tiny_bundle.LABELS[index % tiny_bundle.CLASSES]
        folder.mkdir(exist_ok=True)
        # One color a picture: the network sees the mean only, and noise would give every picture one class.
        color = random.integers(0, 256, 3, dtype=np.uint8)
        Image.fromarray(np.full((8, 8, 3), color)).save(folder / f"{index}.png")
    return open_images(root, labels=Labels(tiny_bundle.LABELS), require_labels=True)


def whole(bundle: Path, images: ImageSet) -> Accuracy:
    runtime = load(bundle)
    batches = images.batches(runtime.manifest.preprocess, EVALUATION_BATCH)
    return evaluate(runtime.session, batches, images.labels)


def kill_a_worker(client: Any) -> None:
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)


@pytest.mark.slow
def test_shards_give_the_accuracy_of_the_whole(local: Any, bundle: Path, labeled: ImageSet) -> None:
    expected = whole(bundle, labeled)
    assert len(set(expected.classes)) > 3
    seen: list[Progress] = []
    for shard in (1, 32, 1000):
        assert cluster_of.evaluate_sharded(local, bundle, labeled, shard=shard, on_progress=seen.append) == expected
    assert [each.done for each in seen if each.done == 203] == [203] * 3
    assert seen[0].done == 16  # shards are whole batches


@pytest.mark.slow
def test_a_lost_worker_costs_time_only(local: Any, bundle: Path, labeled: ImageSet) -> None:
    """After the first shard a worker is killed; its shards are done again, and the result is the same."""
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed:
            killed.append(progress.done)
            kill_a_worker(local)

    assert cluster_of.evaluate_sharded(local, bundle, labeled, shard=16, on_progress=kill) == whole(bundle, labeled)
    assert killed == [16]


@pytest.mark.slow
def test_verify_on_a_cluster(local: Any, bundle: Path, labeled: ImageSet) -> None:
    address = local.scheduler.address
    (alone,) = verify_bundle(bundle, evaluation=labeled.root).rows
    on_cluster = functools.partial(cluster_of.evaluate_on_cluster, address)
    assert verify_bundle(bundle, evaluation=labeled.root, evaluator=on_cluster).rows == (alone,)


@pytest.mark.slow
def test_errors_of_a_worker_come_back(local: Any, bundle: Path, labeled: ImageSet, tmp_path: Path) -> None:
    broken = tiny_bundle.make(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError):
        cluster_of.evaluate_sharded(local, broken, labeled)


@pytest.mark.slow
def test_the_matrix_survives_a_killed_worker(local: Any, tmp_path: Path) -> None:
    """Two of four jobs wait when a worker is killed: one of them begins again elsewhere, and all end as at home."""
    fake = FakeExports(tmp_path)
    go = tmp_path / "go"
    jobs = [job("a", f"wait{go}"), job("b", f"wait{go}"), job("c"), job("d", "error")]
    executor = cluster_of.ClusterExecutor(local, command=fake.command)
    begun: list[str] = []

    def executing(todo: Sequence[Job], out: Path, logs: Path, resources: Any) -> Iterator[Any]:
        results = executor(todo, out, logs, resources)

        def kill() -> None:
            deadline = time.monotonic() + 30
            while len(fake.calls) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            begun.extend(fake.calls)
            kill_a_worker(local)
            while len(fake.calls) < 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            go.touch()

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            yield from results
        finally:
            thread.join()

    records: tuple[JobRecord, ...] = run_jobs(jobs, tmp_path / "out", RESOURCES, execute=executing)
    assert [record.state for record in records] == ["done", "done", "done", "failed"]
    assert [record.error["code"] for record in records if record.error] == ["parity"]
    assert sorted(set(fake.calls)) == ["a", "b", "c", "d"]
    assert len(fake.calls) > 4, "a job was repeated"
    assert sorted(path.name for path in (tmp_path / "out" / "results").iterdir()) == ["a.json", "b.json", "c.json"]


def test_nobody_answers() -> None:
    with pytest.raises(UsageError) as caught, cluster_of.cluster("tcp://127.0.0.1:9", timeout=1):
        pass
    assert caught.value.code == "cluster-unreachable"


def test_another_bundle_on_a_worker_is_no_part_of_the_result(bundle: Path, labeled: ImageSet) -> None:
    with pytest.raises(VerificationError) as caught:
        cluster_of.shard_on_worker(bundle, "of another", labeled)
    assert caught.value.code == "cluster-mixed"


def test_shards_add_up_exactly() -> None:
    parts = [Accuracy("r", hits / n, 1.0, (0,) * n) for hits, n in ((1, 3), (2, 7), (9, 11))]
    assert cluster_of.joined(parts) == Accuracy("r", 12 / 21, 1.0, (0,) * 21)
