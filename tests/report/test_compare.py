"""Two bundles side by side."""

from __future__ import annotations

from dataclasses import replace

from reportpages import COMPARED, EVIDENCE, NOISE, Page, manifest

from xxdeploy.report.compare import Side, compare_sides, layer_changes, pace, render_comparison
from xxdeploy.runtime.bundle.manifest import FileEntry


def side(size: int = 1000, **changes: object) -> Side:
    files = (FileEntry("model.onnx", "0" * 64, size),)
    made = replace(manifest(files=()), **changes)  # type: ignore[arg-type]
    object.__setattr__(made, "files", files)
    return Side(made, made.variants[0], NOISE, (4.0, 4.0, 4.0))


def test_what_differs_and_by_how_much() -> None:
    left = side()
    worse = {**COMPARED, "agreement": 0.95, "top1": [0.7829, 0.7629]}
    evidence = {**EVIDENCE, "comparison": [worse], "recipe": {"scheme": "static-w7c-a8"}}
    right = replace(side(500, evidence=evidence, tools={"xxdeploy": "0.2.0"}), milliseconds=(2.0, 2.0, 3.0))
    rows = {row.name: row for row in compare_sides(left, right)}
    assert rows["size"].change == "0.50x"
    assert rows["time here, p50"].change == "0.50x (0.50..0.62)"
    assert rows["top-1"].change == "-2.6 points"
    assert rows["agreement with Keras"].change == "-3.5 points"
    assert rows["evaluated on"].change == ""
    assert (rows["scheme"].left, rows["scheme"].right) == ("static-w8c-a8", "static-w7c-a8")
    assert (rows["xxdeploy"].left, rows["xxdeploy"].right) == ("0.1.0", "0.2.0")


def test_other_images_give_no_difference() -> None:
    other = side(evidence={**EVIDENCE, "accuracy": {**EVIDENCE["accuracy"], "data_sha256": "8" * 64}})
    rows = {row.name: row for row in compare_sides(side(), other)}
    assert rows["top-1"].change == ""
    assert rows["evaluated on"].change == "not the same images"


def test_layers_are_matched_by_name() -> None:
    noise = (replace(NOISE[0], sqnr_db=10.0), replace(NOISE[1], sqnr_db=21.5), replace(NOISE[2], layer="new/Conv"))
    changes = layer_changes(side(), replace(side(), noise=noise))
    assert changes == (("block_0/Conv", 20.0, 10.0),)
    page = Page(render_comparison(side(), replace(side(), noise=noise)))
    assert "The largest of 1 changes" in page.text
    assert "block_0/Conv" in page.text


def test_a_ratio_needs_runs() -> None:
    assert pace(replace(side(), milliseconds=()), replace(side(), milliseconds=())) == ""
    assert pace(replace(side(), milliseconds=(2.0,)), replace(side(), milliseconds=(1.0,))) == "0.50x"
