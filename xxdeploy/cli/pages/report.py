"""``xxdeploy report``: the HTML page of a bundle, or a comparison of two bundles."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, BundlePath, print_json, print_line, print_table
from xxdeploy.errors import UsageError

EXAMPLE = """Examples:

  xxdeploy report exports/mobilenetv2-int8
  xxdeploy report exports/mobilenetv2-fp32 exports/mobilenetv2-int8 --out compare.html"""


def command(
    bundle: BundlePath,
    other: Path | None = None,
    /,
    *,
    out: Path | None = None,
    peers: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Print where a bundle's report is, or compare two bundles and write a page.

    Parameters
    ----------
    other
        A second bundle. Compares the two manifests and the latency of both on this machine, measured interleaved.
    out
        File for the page. Default: the bundle's own report.html; for two bundles, A-beside-B.html.
    peers
        The peers.json of benchmarks/peers.py. Adds its measurements of other tools on this network to the page, and
        writes the page next to the bundle.
    """
    from xxdeploy.cli.progress import ProgressView
    from xxdeploy.report.bundles import compare_bundles, report_bundle

    if other is not None and peers is not None:
        raise UsageError(
            "--peers adds a section to the page of one bundle, and two bundles are given",
            hint="leave the second bundle or --peers out",
            code="bad-peers",
        )
    if other is None:
        report = report_bundle(bundle, out, peers)
    else:
        with ProgressView(as_json=as_json) as progress:
            report = compare_bundles(bundle, other, out, on_progress=progress)
    if as_json:
        print_json({"page": str(report.page), "rows": report.rows})
        return
    if report.rows:
        print_table(
            ("", "A", "B", "B against A"), [(row.name, row.left, row.right, row.change) for row in report.rows], left=4
        )
        print_line()
    print_line(f"open {report.page.resolve().as_uri()}")
