"""``verify_bundle``: is this bundle what it says, on this machine? Needs only what a device has."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.bundle.check import check_bundle
from xxdeploy.datasets import Labels, imagenet_labels, open_images
from xxdeploy.errors import UsageError
from xxdeploy.exporter.result import TableRow, VerifyResult
from xxdeploy.exporter.stages import EVALUATION_BATCH
from xxdeploy.results import OnProgress
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.bundle.signature import KeyLike, trust
from xxdeploy.verify import evaluate


def verify_bundle(
    bundle: Path,
    *,
    evaluation: Path | None = None,
    on_progress: OnProgress | None = None,
    cluster: str | None = None,
    key: KeyLike | None = None,
    min_version: int = 0,
) -> VerifyResult:
    """Check hashes and structure, run the golden pairs, and measure accuracy if labeled images are given.

    ``cluster`` is the address of a Dask scheduler to measure accuracy on; all else happens here.
    ``key`` and ``min_version`` are those of ``runtime.load``.

    Raises
    ------
    BundleError, VerificationError, EngineError
        As ``check_bundle`` and ``runtime.load``.
    UsageError
        Those of ``open_images``; ``features-evaluation``, ``labels-missing``; ``cluster-without-eval``.
    XXDeployError
        As ``pipeline.cluster``.
    """
    if cluster is not None and evaluation is None:
        raise UsageError(
            "a cluster measures accuracy, and no images are given",
            hint="add --eval FOLDER, or leave --cluster out",
            code="cluster-without-eval",
        )
    manifest = check_bundle(bundle, trust(key, min_version))
    runtime = load(bundle, key=key, min_version=min_version)
    selftest = runtime.selftest()
    rows: tuple[TableRow, ...] = ()
    if evaluation is not None:
        rows = (_accuracy(runtime, evaluation, on_progress, cluster),)
    return VerifyResult(manifest, selftest, rows, runtime.version)


def _accuracy(runtime: Runtime, folder: Path, on_progress: OnProgress | None, address: str | None) -> TableRow:
    manifest = runtime.manifest
    if manifest.task != "classification":
        raise UsageError("features have no classes to evaluate", hint="leave --eval out", code="features-evaluation")
    images = open_images(folder, labels=labels_of(runtime), require_labels=True)
    if address is None:
        batches = images.batches(manifest.preprocess, EVALUATION_BATCH)
        found = evaluate(runtime.session, batches, images.labels, on_progress=on_progress)
    else:
        from xxdeploy.batch.dask import cluster, evaluate_sharded

        with cluster(address) as client:
            found = evaluate_sharded(client, runtime.root, images, on_progress=on_progress)
    size = next(entry.size for entry in manifest.files if entry.path == runtime.variant.model)
    return TableRow(found.runner, size, None, found.top1, found.top5, None)


def labels_of(runtime: Runtime) -> Labels | None:
    """ImageNet's names stand for WordNet ids, too: its folders are called by them."""
    if runtime.manifest.labels is None:
        return None
    imagenet = imagenet_labels()
    return imagenet if runtime.labels == imagenet.names else Labels(runtime.labels)
