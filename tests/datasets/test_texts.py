from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from xxdeploy.datasets.labels import Labels
from xxdeploy.datasets.texts import BLANK, load_alphabet, open_texts
from xxdeploy.errors import UsageError

LABELS = Labels(("a", "b", " ", BLANK))


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / name)
    return root


@pytest.mark.parametrize(
    ("text", "names"),
    [("a\nb\n \n", ("a", "b", " ")), ("ab \n", ("a", "b", " ")), ("a\r\nb\r\nch\r\n", ("a", "b", "ch"))],
)
def test_a_character_a_line_or_all_on_one(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    assert load_alphabet(path, 4, 3).names == (*names, BLANK)
    assert load_alphabet(path, 4, 0).names == (BLANK, *names)


def test_json_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["a", "b"]')
    assert load_alphabet(tmp_path / "a.json", 3, 2).names == ("a", "b", BLANK)


@pytest.mark.parametrize(
    ("text", "code"), [(b"a\nb\n", "labels-count"), (b"a\n\nb\n", "bad-labels"), (b"\xff\n", "no-labels-file")]
)
def test_another_number_or_no_text(tmp_path: Path, text: bytes, code: str) -> None:
    (tmp_path / "a.txt").write_bytes(text)
    with pytest.raises(UsageError) as caught:
        load_alphabet(tmp_path / "a.txt", 4, 3)
    assert caught.value.code == code


def test_texts_of_a_list_of_folders_and_of_files(tmp_path: Path) -> None:
    listed = pictures(tmp_path / "listed", "1.png", "2.png")
    (listed / "labels.csv").write_text("file,label\n2.png,ab\n1.png,b a\n")
    images, texts, said = open_texts(listed, LABELS)
    assert [texts[label] for label in images.labels or ()] == ["b a", "ab"]
    assert said == "the true texts are listed/labels.csv"
    images, texts, _ = open_texts(pictures(tmp_path / "folders", "ab/1.png", "ab/2.png", "b/1.png"), LABELS)
    assert [texts[label] for label in images.labels or ()] == ["ab", "ab", "b"]
    images, texts, _ = open_texts(pictures(tmp_path / "files", "abba.png", "b.png"), LABELS)
    assert [texts[label] for label in images.labels or ()] == ["abba", "b"]


def test_a_character_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'aBc' of aBc\.png has 'B'") as caught:
        open_texts(pictures(tmp_path / "files", "aBc.png"), LABELS)
    assert caught.value.code == "labels-unknown"
