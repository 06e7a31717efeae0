"""``xxdeploy verify``: whether a bundle is what it says it is, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, print_json, print_line, print_rows
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.exporter import VerifyResult

NAME = "verify"
EXAMPLE = """Examples:

  xxdeploy verify exports/mobilenetv2-int8
  xxdeploy verify exports/mobilenetv2-int8 --eval val/
  xxdeploy verify exports/mobilenetv2-int8 --key release.pub --min-version 3"""


def command(
    bundle: Path,
    /,
    *,
    evaluation: Annotated[Path | None, Parameter(name="--eval")] = None,
    cluster: str | None = None,
    key: Path | None = None,
    min_version: int = 0,
    as_json: AsJson = False,
) -> None:
    """Check a bundle: the hash of every file, then its golden pairs, which it must reproduce on this processor.

    Parameters
    ----------
    bundle
        Folder that `xxdeploy export` wrote.
    evaluation
        Folder of labeled images, to measure top-1 and top-5 on.
    cluster
        Address of a Dask scheduler, to measure on its workers.
    key
        Public key (.pub) with which the bundle must be signed.
    min_version
        Refuse a bundle that was signed as an older version.
    """
    with extra("edge"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.diagnose.verify_bundle import verify_bundle
    with ProgressView(as_json=as_json) as progress:
        result = verify_bundle(
            bundle, evaluation=evaluation, on_progress=progress, cluster=cluster, key=key, min_version=min_version
        )
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: VerifyResult) -> None:
    manifest, test = result.manifest, result.selftest
    print_line(f"{manifest.name}: {len(manifest.files)} files, every hash right")
    if result.version is not None:
        print_line(f"signed as version {result.version}")
    print_line(
        f"self-test of {test.variant}: {test.images} images, largest error {test.max_abs:.1e} "
        f"(allowed {test.tolerance:.1e})"
    )
    if result.rows:
        print_line()
        print_rows(result.rows)
