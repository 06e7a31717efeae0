"""The notebook, as a user runs it: in a kernel, whose event loop runs and whose cells show HTML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent.parent / "examples" / "train_and_export.ipynb"


def outputs(cell: Any, kind: str) -> str:
    """All that a cell shows in one form: ``text/html``, or ``text`` for what it prints."""
    shown = [
        out.text if kind == "text" else out.data.get(kind, "")
        for out in cell.outputs
        if ("text" in out) == (kind == "text")
    ]
    return "\n".join(shown)


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    trained, exported, verdicts, runtime, predicted, failed = code[1:]
    assert float(re.findall(r"accuracy (\S+)", outputs(trained, "text"))[0]) > 0.95
    page = outputs(exported, "text/html")
    assert re.search(r"10 steps in \S+ s", page)
    assert "<td>onnx-int8</td>" in page
    assert outputs(exported, "text") == ""  # no line on stderr: the bar has them
    assert "PASS max-drop 2" in outputs(verdicts, "text/plain")
    assert outputs(runtime, "text").splitlines()[0] == "shapes-int8: classification, 3 classes"
    assert float(re.findall(r"right on (\S+) %", outputs(predicted, "text"))[0]) > 93
    assert "[picture-range]" in outputs(failed, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes-int8"]
