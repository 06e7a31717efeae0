"""``xxdeploy report``: the page of a bundle, or of two side by side."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, print_json, print_line, print_table
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

NAME = "report"
EXAMPLE = """Examples:

  xxdeploy report exports/mobilenetv2-int8
  xxdeploy report exports/mobilenetv2-fp32 exports/mobilenetv2-int8 --out compare.html"""


def command(
    bundle: Path,
    other: Path | None = None,
    /,
    *,
    out: Path | None = None,
    peers: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Say where a bundle's report is; of two bundles, compare them and write a page.

    Parameters
    ----------
    bundle
        Folder that `xxdeploy export` wrote.
    other
        Another, to compare it with: what their manifests say, and their times on this machine, taken in turn.
    out
        File to write the page to. By default the bundle's own report.html is named, and a comparison is written to
        A-beside-B.html.
    peers
        The peers.json of benchmarks/peers.py: what it measured of other tools on this network becomes a section of
        the page, which is then written beside the bundle.
    """
    with extra("export"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.diagnose.report_bundles import compare_bundles, report_bundle
    if other is not None and peers is not None:
        raise UsageError("--peers is for the page of one bundle", hint="leave one of them out", code="bad-peers")
    if other is None:
        found = report_bundle(bundle, out, peers)
    else:
        with ProgressView(as_json=as_json) as progress:
            found = compare_bundles(bundle, other, out, on_progress=progress)
    if as_json:
        print_json({"page": str(found.page), "rows": found.rows})
        return
    if found.rows:
        print_table(
            ("", "A", "B", "B beside A"), [(row.name, row.left, row.right, row.change) for row in found.rows], left=4
        )
        print_line()
    print_line(f"open {found.page.resolve().as_uri()}")
