"""The closing table as text, and the result of an export in an interpreter and a notebook."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.exporter.result import Conclusions, ExportResult, TableRow, table_of

ROWS = (
    TableRow("keras", 2_000_000, 12.3456, 0.8, None, 1.0),
    TableRow("onnx-int8", 500_000, 0.1234, 0.775, None, 0.99),
)


def test_columns_without_values_are_left_out() -> None:
    assert table_of(ROWS) == (
        ("", "MB", "p50 ms", "top-1 %", "lost points", "agree %"),
        [("keras", "2.00", "12.3", "80.0", "-", "100.0"), ("onnx-int8", "0.50", "0.12", "77.5", "2.5", "99.0")],
    )
    bare = TableRow("keras", None, 1.0, None, None, None)
    assert table_of([bare]) == (("", "p50 ms"), [("keras", "1.00")])


def test_a_result_reads_well() -> None:
    told = Conclusions(("lost 2.5 points",), ("PASS max-drop 3",), ("WARNING: few images",))
    result = ExportResult(Path("out/<net>"), ROWS, (), (), ("a note",), conclusions=told)
    assert result.verdicts == ("PASS max-drop 3",)
    assert repr(result).splitlines() == [
        f"bundle {Path('out/<net>')}",
        "             MB  p50 ms  top-1 %  lost points  agree %",
        "keras      2.00    12.3     80.0            -    100.0",
        "onnx-int8  0.50    0.12     77.5          2.5     99.0",
        "WARNING: few images",
        "PASS max-drop 3",
        "lost 2.5 points",
        "note: a note",
    ]
    page = result._repr_html_()
    assert "&lt;net&gt;" in page
    assert "<td>onnx-int8</td><td>0.50</td>" in page
    assert "<div>PASS max-drop 3</div>" in page
