"""Verify a bundle on this machine: hashes, golden pairs, and accuracy on labeled images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.datasets import ImageSet, Labels, imagenet_labels, open_samples
from xxdeploy.datasets.images import EVALUATION_BATCH
from xxdeploy.datasets.texts import open_texts
from xxdeploy.errors import UsageError
from xxdeploy.exporter.result import TableRow, VerifyResult
from xxdeploy.results import Accuracy, Evidence, ModelOutput, OnProgress
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.bundle.signature import KeyLike, trust
from xxdeploy.runtime.selftest import read_golden
from xxdeploy.verify import evaluate, evaluate_texts

Evaluator: TypeAlias = Callable[[Runtime, ImageSet, OnProgress | None], Accuracy]
"""Measures top-1 and top-5 of a loaded bundle on labeled images."""


def evaluate_here(runtime: Runtime, images: ImageSet, on_progress: OnProgress | None) -> Accuracy:
    """Measure top-1 and top-5 in this process."""
    batches = images.batches_for(runtime.session, runtime.manifest.form, EVALUATION_BATCH)
    return evaluate(runtime.session, batches, images.labels, on_progress=on_progress)


def verify_bundle(
    bundle: Path,
    *,
    evaluation: Path | None = None,
    evaluator: Evaluator = evaluate_here,
    on_progress: OnProgress | None = None,
    key: KeyLike | None = None,
    min_version: int = 0,
) -> VerifyResult:
    """Check hashes and structure, run the golden pairs, and measure accuracy if labeled images are given.

    ``evaluation`` is their folder; ``evaluator`` measures, and ``batch.dask.evaluate_on_cluster`` spreads it over the
    workers of a cluster. ``key`` and ``min_version`` are as for ``runtime.load``. ``BundleError``,
    ``VerificationError``, ``EngineError``: as ``check_bundle``, ``runtime.load`` and ``evaluator``. ``UsageError``:
    those of ``open_images``; ``features-evaluation``, ``labels-missing``.
    """
    manifest = check_bundle(bundle, trust(key, min_version))
    runtime = load(bundle, key=key, min_version=min_version)
    selftest = runtime.selftest()
    rows: tuple[TableRow, ...] = ()
    notes: tuple[str, ...] = ()
    if evaluation is not None and manifest.task == "sequence":
        rows, notes = _texts(runtime, evaluation, on_progress)
    elif evaluation is not None:
        images = open_labeled(runtime, evaluation)
        accuracy, notes = evaluator(runtime, images, on_progress), images.notes
        size = next(entry.size for entry in manifest.files if entry.path == runtime.variant.model)
        top5 = accuracy.told_top5(len(runtime.labels))
        rows = (TableRow(accuracy.runner, size, None, accuracy.top1, top5, None),)
    evidence = Evidence.from_json(manifest.evidence)
    return VerifyResult(manifest, selftest, rows, runtime.version, notes, evidence.scores, evidence.domain)


def output_of(runtime: Runtime) -> ModelOutput:
    """Return the first output of a bundle that reads texts, without true texts."""
    manifest = runtime.manifest
    golden = read_golden(runtime.root, manifest, runtime.variant)[1][manifest.output_name]
    steps, classes = golden.shape[1:]
    name = manifest.output_name
    return ModelOutput(name, classes, "sequence", (steps, classes), blank=manifest.blank, names=runtime.labels)


def _texts(
    runtime: Runtime, folder: Path, on_progress: OnProgress | None
) -> tuple[tuple[TableRow, ...], tuple[str, ...]]:
    """Measure the share of right texts and of wrong characters in this process."""
    images, truths, said = open_texts(folder, Labels(runtime.labels))
    assert images.labels is not None
    output = replace(output_of(runtime), truths=truths)
    batches = images.batches_for(runtime.session, runtime.manifest.preprocess, EVALUATION_BATCH)
    accuracy = evaluate_texts(runtime.session, batches, images.labels, output, {}, on_progress=on_progress)
    size = next(entry.size for entry in runtime.manifest.files if entry.path == runtime.variant.model)
    row = TableRow(accuracy.runner, size, None, None, None, None, accuracy.figures)
    return (row,), (*images.notes, said)


def open_labeled(runtime: Runtime, folder: Path) -> ImageSet:
    """Open the labeled images of a folder, or the samples of a table, for a bundle.

    ``UsageError``: those of ``open_samples``; ``features-evaluation``.
    """
    if runtime.manifest.task != "classification":
        raise UsageError(
            f"the accuracy of {runtime.manifest.name} cannot be measured: its task is {runtime.manifest.task}, without "
            "labels to compare with",
            hint="leave --eval out; pytest --xxdeploy-bundle BUNDLE --xxdeploy-model FILE --xxdeploy-eval FOLDER "
            "compares it with Keras",
            code="features-evaluation",
        )
    return open_samples(folder, runtime.manifest.form, labels=labels_of(runtime), require_labels=True)


def labels_of(runtime: Runtime) -> Labels | None:
    """Return the labels of a bundle, with WordNet ids if they are ImageNet's; None if the bundle has none."""
    if runtime.manifest.labels is None:
        return None
    imagenet = imagenet_labels()
    return imagenet if runtime.labels == imagenet.names else Labels(runtime.labels)
