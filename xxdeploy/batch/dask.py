"""A batch, or the evaluation of one bundle, on Dask distributed: same results, and the work of lost workers is retried.

Workers need xxdeploy with the extra for their work (``export`` for a batch, ``edge`` for an evaluation), and the
folders under the same paths as here, as on a network drive.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.batch.jobs import Job
from xxdeploy.batch.process import COMMAND, Ended, Running, document_of
from xxdeploy.batch.records import manifest_digest
from xxdeploy.batch.run import Resources
from xxdeploy.datasets.images import EVALUATION_BATCH, ImageSet
from xxdeploy.errors import EngineError, UsageError, VerificationError
from xxdeploy.optional import extra
from xxdeploy.results import Accuracy, OnProgress, Progress
from xxdeploy.runtime import Runtime, load
from xxdeploy.verify import evaluate

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 3
SHARD_BATCHES = 16
"""Batches in a shard: a lost worker costs the time of one shard, a few hundred images."""
_CONNECT_SECONDS = 20

_one_job = threading.Lock()


@contextlib.contextmanager
def cluster(address: str, *, timeout: float = _CONNECT_SECONDS) -> Iterator[Client]:
    """Connect to the scheduler at ``address`` (``tcp://HOST:8786``) within ``timeout`` seconds.

    ``UsageError`` ``cluster-unreachable``: no scheduler answers, or it has no workers.
    """
    with extra("cluster"):
        from distributed import Client
    try:
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise _unreachable(address, str(error)) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise _unreachable(address, "it has no workers")
        yield client


class ClusterExecutor:
    """Runs the jobs of a batch on a cluster: pass it to ``run_jobs(execute=...)``.

    Each worker process makes one bundle at a time, under the same limits as on this machine; ``Resources.parallel`` and
    ``Resources.memory`` do not apply. A job whose worker is lost begins again on another.
    """

    def __init__(self, client: Client, *, command: tuple[str, ...] = COMMAND) -> None:
        self._client = client
        self._command = command

    def __call__(self, jobs: Sequence[Job], out: Path, logs: Path, resources: Resources) -> Iterator[tuple[Job, Ended]]:
        """Yield each job as it ends."""
        from distributed import as_completed

        futures = {}
        for job in jobs:
            arguments = job, out / job.name, logs, resources.bytes_for(job), resources.timeout, self._command
            key = f"xxdeploy-job-{job.name}-{job.digest[:16]}"
            futures[self._client.submit(job_on_worker, *arguments, pure=False, retries=RETRIES, key=key)] = job
        try:
            for future in as_completed(list(futures)):
                yield futures[future], _ended(future)
        finally:
            self._client.cancel([future for future in futures if not future.done()], force=True)


def job_on_worker(
    job: Job, out: Path, logs: Path, memory: int, timeout: float, command: tuple[str, ...] = COMMAND
) -> Ended:
    """Run one job on the worker that calls this, one at a time."""
    with _one_job:
        return Running(job, out, logs, memory=memory, timeout=timeout, command=command).wait()


def evaluate_sharded(
    client: Client,
    bundle: Path,
    images: ImageSet,
    *,
    shard: int = SHARD_BATCHES * EVALUATION_BATCH,
    on_progress: OnProgress | None = None,
) -> Accuracy:
    """Measure top-1 and top-5 of a bundle, the same on every worker, on labeled images in shards.

    A shard has ``shard`` images, rounded up to whole batches of the unsharded evaluation in its order: so the figures
    and the classes are the same, image by image.

    Raises
    ------
    EngineError
        ``cluster-worker-lost``: a shard lost its worker repeatedly.
    VerificationError
        ``cluster-mixed``: workers run different variants or another bundle, so their answers are not one result.
    XXDeployError
        As ``runtime.load`` and ``verify.evaluate`` on a worker.
    """
    if images.labels is None:
        raise ValueError("the images have no labels")
    from distributed import as_completed

    size = -(-max(shard, 1) // EVALUATION_BATCH) * EVALUATION_BATCH
    digest = manifest_digest(bundle)
    futures = {}
    for start in range(0, len(images), size):
        files = tuple(path.absolute() for path in images.files[start : start + size])
        part = ImageSet(images.root.absolute(), files, images.labels[start : start + size])
        work = shard_on_worker, bundle.resolve(), digest, part
        futures[client.submit(*work, pure=False, retries=RETRIES)] = start
    shards: dict[int, tuple[str, Accuracy]] = {}
    try:
        for future in as_completed(list(futures)):
            shards[futures[future]] = _result(future)
            if on_progress is not None:
                done = sum(accuracy.images for _, accuracy in shards.values())
                on_progress(Progress("accuracy", done, len(images)))
    finally:
        client.cancel([future for future in futures if not future.done()], force=True)
    variants = {variant for variant, _ in shards.values()}
    if len(variants) > 1:
        raise VerificationError(
            f"the workers are of different kinds: they run {', '.join(sorted(variants))}",
            hint="evaluate on workers with the same kind of processor",
            code="cluster-mixed",
        )
    return joined([accuracy for _, (_, accuracy) in sorted(shards.items())])


def evaluate_on_cluster(
    address: str, runtime: Runtime, images: ImageSet, on_progress: OnProgress | None = None
) -> Accuracy:
    """Measure top-1 and top-5 of a loaded bundle on the workers of the scheduler at ``address``."""
    with cluster(address) as client:
        return evaluate_sharded(client, runtime.root, images, on_progress=on_progress)


def joined(parts: Sequence[Accuracy]) -> Accuracy:
    """Join the results of shards, in order. Their shares become counts again, which add up exactly."""
    classes = tuple(chosen for part in parts for chosen in part.classes)
    top1 = sum(round((part.top1 or 0.0) * part.images) for part in parts)
    top5 = sum(round((part.top5 or 0.0) * part.images) for part in parts)
    return Accuracy(parts[0].runner, top1 / len(classes), top5 / len(classes), classes)


def shard_on_worker(bundle: Path, digest: str | None, images: ImageSet) -> tuple[str, Accuracy]:
    """Evaluate one shard on the worker that calls this; return the name of the variant that ran, and the result."""
    if digest is not None and manifest_digest(bundle) != digest:
        message, hint = f"{bundle} is another bundle on this worker", "give all workers the same folder"
        raise VerificationError(message, hint=hint, code="cluster-mixed")
    runtime = _loaded(bundle, digest)
    batches = images.batches_for(runtime.session, runtime.manifest.form, EVALUATION_BATCH)
    return runtime.variant.name, evaluate(runtime.session, batches, images.labels)


@functools.lru_cache(maxsize=1)
def _loaded(bundle: Path, digest: str | None) -> Runtime:
    """Load a bundle once on each worker; ``digest`` is in the cache's key, so a replaced bundle is loaded again."""
    del digest
    return load(bundle)


def _ended(future: Any) -> Ended:
    """Return how a job ended; a repeatedly lost worker is an error of the job."""
    try:
        ended: Ended = _result(future)
    except EngineError as error:
        return Ended(1, 0.0, None, None, document_of(error))
    return ended


def _result(future: Any) -> Any:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except (KilledWorker, CancelledError) as error:
        raise EngineError(
            f"its worker was lost, and so were the workers of all retries: {error}",
            hint="look into the workers' logs: they may lack memory, or their machine was shut down",
            code="cluster-worker-lost",
        ) from error


def _unreachable(address: str, why: str) -> UsageError:
    return UsageError(
        f"there is no Dask cluster at {address}: {why}",
        hint="--cluster tcp://HOST:8786, where `dask scheduler` runs, with at least one `dask worker`",
        code="cluster-unreachable",
    )
