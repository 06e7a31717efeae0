from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from job_parts import job

from xxdeploy.batch.records import JobRecord
from xxdeploy.batch.summary import html_from_records, summary_row, write_summary

SHARES = {"top1": 0.795, "top5": 0.9, "agreement": 0.9852}
CARD = {
    "variants": {"int8": {"nodes": 61, "bytes": 3_700_000}, "int8-avx2": {"nodes": 62, "bytes": 3_700_000}},
    "parity": {"onnx-fp32": {"max_abs": 1e-6}, "onnx-int8": {"max_abs": 0.02}},
    "accuracy": {"images": 677, "onnx-int8": SHARES},
}
DONE = JobRecord("good", "d", "done", 12.4, 1_300_000_000, "m", CARD)
FAILED = JobRecord(
    "bad<script>", "d", "failed", 3.0, error={"code": "parity", "message": "<b>&", "hint": '"</td><script>'}
)


class Tags(HTMLParser):
    """Notes what is opened, and that everything closes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.text.append(text)


def page(*records: JobRecord) -> Tags:
    tags = Tags()
    tags.feed(html_from_records(records))
    assert tags.open == []
    return tags


def test_a_row_has_the_figures_of_the_first_variant() -> None:
    assert summary_row(DONE).columns == ("good", "done", "61", "3.7 MB", "2e-02", "79.5", "98.5", "12 s", "1.3 GB")
    assert summary_row(FAILED).columns == ("bad<script>", "failed", *"-----", "3 s", "-")
    assert summary_row(FAILED).problem == "parity: <b>&"


def test_the_page_stands_alone_and_runs_nothing() -> None:
    tags = page(DONE, FAILED)
    assert "script" not in tags.seen
    assert "b" not in tags.seen
    assert tags.links == []
    assert "bad<script>" in tags.text
    assert "2 bundles, 1 failed" in tags.text


def test_the_page_is_for_light_and_dark_and_for_a_phone() -> None:
    text = html_from_records([DONE])
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert "max-width: 40rem" in text
    assert "://" not in text
    assert "default-src 'none'" in text
    assert "<p>1 bundle, all right</p>" in text


def test_every_row_has_every_column() -> None:
    tags = page(DONE, FAILED)
    assert tags.seen.count("th") == 9
    assert tags.seen.count("td") == 9 + 9 + 1


def test_both_files_are_written(tmp_path: Path) -> None:
    paths = write_summary([job("good"), job("bad")], [DONE, FAILED], tmp_path)
    assert [path.name for path in paths] == ["summary.json", "summary.html"]
    document = json.loads(paths[0].read_text())
    assert (document["done"], document["failed"]) == (1, 1)
    assert document["cells"][0]["model"] == "lenet"
    assert document["cells"][1]["error"]["code"] == "parity"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["summary.html", "summary.json"]
