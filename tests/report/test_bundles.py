from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bundle
from reportpages import COMPARED, EVIDENCE

from xxdeploy.bundle.pack import pack
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.report import REPORT
from xxdeploy.report.bundles import compare_bundles, report_bundle

PAGE = "<!doctype html><title>tiny</title>"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that carries a page."""
    parts, manifest = tiny_bundle.parts_and_manifest()
    return pack(manifest, {**parts, REPORT: PAGE.encode()}, tmp_path / "b")


def test_the_page_of_a_bundle(bundle: Path, tmp_path: Path) -> None:
    assert report_bundle(bundle, None).page == bundle / REPORT
    copy = report_bundle(bundle, tmp_path / "sub" / "copy.html").page
    assert copy.read_text() == PAGE
    with pytest.raises(UsageError) as caught:
        report_bundle(bundle, tmp_path)
    assert caught.value.code == "output-unwritable"


def test_a_page_that_somebody_changed_is_not_shown(bundle: Path) -> None:
    (bundle / REPORT).write_text(PAGE.replace("tiny", "tidy"))
    with pytest.raises(BundleError) as caught:
        report_bundle(bundle, None)
    assert caught.value.code == "file-hash"


def test_a_bundle_without_a_page_gets_one_of_its_manifest(tmp_path: Path) -> None:
    page = report_bundle(tiny_bundle.make(tmp_path / "old"), None).page
    assert page == tmp_path / "old-report.html"
    assert "tiny-0" in page.read_text()


def test_two_bundles(tmp_path: Path) -> None:
    bundles = []
    for seed, top1 in enumerate((0.5, 0.6)):
        parts, manifest = tiny_bundle.parts_and_manifest(seed=seed)
        evidence = {**EVIDENCE, "comparison": [{**COMPARED, "top1": [0.5, top1]}]}
        bundles.append(pack(replace(manifest, evidence=evidence), parts, tmp_path / f"b{seed}"))
    report = compare_bundles(bundles[0], bundles[1], tmp_path / "c.html")
    rows = {row.name: row for row in report.rows}
    assert (rows["variant here"].left, rows["top-1"].change) == ("portable, float32", "+10.0 points")
    assert rows["time here, p50"].change
    assert "A tiny-0 and B tiny-1" in report.page.read_text()
