"""The data that an export hands to its report."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest
from bundle_contents import without_report

from xxdeploy.cli import main
from xxdeploy.exporter import ExportOptions
from xxdeploy.exporter.inputs import catalog_inputs
from xxdeploy.exporter.report_data import command_of, measured
from xxdeploy.exporter.result import Conclusions, Lowered
from xxdeploy.models.catalog import find
from xxdeploy.results import Accuracy

LENET = find("lenet")


def test_the_command_asks_for_the_same(tmp_path: Path) -> None:
    options = ExportOptions.of(
        "int8", weights="none", alpha=0.5, input_size=96, no_top=True, pooling="avg",
        calibration=tmp_path / "train set", samples=64, recipe="mobilenet", preprocess=str(tmp_path / "mine.toml"),
        custom_objects=("a:b", "c:d"), unsafe_lambda=True,
        target="tensorrt-rtx", gpu="sm86,sm89", batch="1,2,4",
    )  # fmt: skip
    said = command_of("mobilenet", options)
    assert said == (
        "xxdeploy export mobilenet --weights=none --alpha=0.5 --input-size=96 --no-top --pooling=avg "
        "--preprocess=mine.toml --custom-objects=a:b --custom-objects=c:d --unsafe-lambda --int8 "
        "'--calibration=train set' --samples=64 --recipe=mobilenet --target=tensorrt-rtx --gpu=sm86,sm89 --batch=1,2,4"
    )
    assert str(tmp_path) not in said
    assert command_of("lenet", ExportOptions()) == "xxdeploy export lenet"


def test_the_command_in_the_report_makes_the_same_bundle(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option that applies to LeNet's sample has an unusual value; the report names files without folders.

    But ``--ort-format``: ONNX Runtime writes other bytes each time.
    """
    monkeypatch.chdir(tmp_path)
    Path("photos").symlink_to(images / "plain")
    Path("labelled").symlink_to(images / "labelled")
    Path("names.txt").write_text("\n".join(f"class-{number}" for number in range(10)))
    Path("scale.toml").write_text("mean = [10.0]\nstd = [200.0]\n")
    Path("mine.toml").write_text('bias-correction = "empirical"\n')
    line = (
        "--weights=sample --input-size=28 --classes=10 --labels=names.txt --preprocess=scale.toml --resize=crop --int8 "
        "--calibration=photos --samples=17 --method=minmax --seed=3 --recipe=mine.toml --cpu=vnni --keep-fp32 "
        "--eval=labelled --max-drop=90.0 --min-agreement=0.5 --max-latency-ms=1000.0 --max-size-mb=50.0 "
        "--max-memory-mb=4000.0 --top-k=3 --pictures"
    )
    words = line.split()
    assert main(["export", "lenet", *words, "--out=one"]) == 0
    command = re.search(r"xxdeploy export [^<]*", Path("one/report.html").read_text())
    assert command is not None
    again = shlex.split(html.unescape(command[0]))
    assert again == ["xxdeploy", "export", "lenet", *words]
    assert main([*again[1:], "--out=two"]) == 0
    assert without_report(Path("one")) == without_report(Path("two"))
    assert without_report(Path("one")).keys() >= {"model.onnx", "model-fp32.onnx", "labels.txt"}


def test_images_that_changed_class_are_shown_and_counted(images: Path) -> None:
    options = ExportOptions.of("int8", weights="none", calibration=images / "plain", evaluation=images / "labelled")
    inputs = catalog_inputs(LENET, options)
    before = tuple(range(10)) * 2
    after = (1, 2, *before[2:])
    accuracies = [Accuracy("keras", 1.0, 1.0, before), Accuracy("onnx-fp32", 1.0, 1.0, before)]
    accuracies.append(Accuracy("onnx-int8", 0.9, 1.0, after))
    none = Conclusions()
    seen = measured(
        "lenet",
        options.changed(pictures=True),
        inputs,
        Lowered(()),
        timings=(),
        accuracies=accuracies,
        steps=(),
        concluded=none,
    )
    assert (seen.candidate, seen.changes) == ("onnx-int8", 2)
    assert [(change.before, change.after) for change in seen.changed] == [
        ("class-0", "class-1"),
        ("class-1", "class-2"),
    ]
    assert all(change.picture.startswith("data:image/jpeg;base64,") for change in seen.changed)
    assert len(seen.sheet) == 20
    assert seen.confused[0] == ("class-0", "class-1", 1)
    without = measured(
        "lenet", options, inputs, Lowered(()), timings=(), accuracies=accuracies, steps=(),
        concluded=none,
    )  # fmt: skip
    assert without.sheet == ()
    assert [change.picture for change in without.changed] == ["", ""]
