"""``xxdeploy verify``: hashes, golden pairs and accuracy of a bundle on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, BundlePath, MinVersion, PublicKey, print_json, print_line, print_rows
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.exporter import VerifyResult

EXAMPLE = """Examples:

  xxdeploy verify exports/mobilenetv2-int8
  xxdeploy verify exports/mobilenetv2-int8 --eval val/
  xxdeploy verify exports/mobilenetv2-int8 --key release.pub --min-version 3"""


def command(
    bundle: BundlePath,
    /,
    *,
    evaluation: Annotated[Path | None, Parameter(name="--eval")] = None,
    cluster: str | None = None,
    key: PublicKey = None,
    min_version: MinVersion = 0,
    as_json: AsJson = False,
) -> None:
    """Check the hash of every file of a bundle, then reproduce its golden pairs on this processor.

    Parameters
    ----------
    evaluation
        Folder of labeled images. Measures top-1 accuracy, and top-5 of more than ten classes.
    cluster
        Address of a Dask scheduler whose workers measure the accuracy.
    """
    if cluster is not None and evaluation is None:
        raise UsageError(
            "--cluster measures accuracy, and no images are given",
            hint="add --eval FOLDER, or leave --cluster out",
            code="cluster-without-eval",
        )
    with extra("edge"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.diagnose.verify_bundle import evaluate_here, verify_bundle
    evaluator = evaluate_here
    if cluster is not None:
        from xxdeploy.batch.dask import evaluate_on_cluster

        evaluator = partial(evaluate_on_cluster, cluster)
    with ProgressView(as_json=as_json) as progress:
        verified = verify_bundle(
            bundle, evaluation=evaluation, evaluator=evaluator, on_progress=progress, key=key, min_version=min_version
        )
    if as_json:
        print_json(verified)
    else:
        _show(verified)


def _show(verified: VerifyResult) -> None:
    manifest, test = verified.manifest, verified.selftest
    print_line(f"{manifest.name}: {len(manifest.files)} files, all hashes correct")
    if verified.version is not None:
        print_line(f"signed as version {verified.version}")
    print_line(
        f"self-test of {test.variant}: {test.images} images, largest error {test.max_abs:.1e} "
        f"(allowed {test.tolerance:.1e})"
    )
    measured = [f"{name}, at the export: {shift.sentence}" for name, shift in verified.scores.items()]
    measured += [] if verified.domain is None else [f"calibration, at the export: {verified.domain.sentence}"]
    for sentence in measured:
        print_line(sentence, hang=2)
    if verified.rows:
        print_line()
        print_rows(verified.rows)
    for note in verified.notes:
        print_line(f"note: {note}")
