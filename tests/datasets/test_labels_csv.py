"""``labels.csv``: files and labels, or a table of classes. Its faults are in ``test_folders.py``."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.datasets import Labels
from xxdeploy.datasets.labels_csv import Listing, read_listing


def test_no_list(tmp_path: Path) -> None:
    assert read_listing(tmp_path, ["a.png"]) is None


def test_files_are_sorted_and_blanks_cut(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("\ufefffile,label\r\nb.png, dog \r\n./a.png,cat\r\n".encode())
    assert read_listing(tmp_path, ["a.png", "b.png", "c.png"]) == Listing(("a.png", "b.png"), ("cat", "dog"))


def test_a_table_of_classes(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("ClassId,Name\n1,b\n0,a\n")
    assert read_listing(tmp_path, []) == Listing(classes=Labels(("a", "b")))
