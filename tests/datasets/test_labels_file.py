"""Files of class names: text, JSON and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.datasets import Labels, load_labels
from xxdeploy.errors import UsageError


def test_a_file_of_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\nGroßer Hund\r\n\r\n".encode())
    assert load_labels(path) == Labels(("cat", "Großer Hund"))


def test_a_file_with_ids(tmp_path: Path) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text("n00000002 a cat\nn00000001 a dog\n", encoding="utf-8")
    assert load_labels(path) == Labels(("a cat", "a dog"), ("n00000002", "n00000001"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "labels-empty"),
        (b"\n \n", "labels-empty"),
        (b"a\n\nb\n", "bad-labels"),
        (b"\xff\xfe\x00a", "bad-labels"),
        (b"n00000001 a\nn00000001 b\n", "bad-labels"),
        (b"1 one\n0 zero\n", "bad-labels"),
        (b"a" * 4_000_001, "bad-labels"),
    ],
)
def test_a_file_that_is_no_list_of_labels(content: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_labels(path)
    assert caught.value.code == code


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.txt", tmp_path):
        with pytest.raises(UsageError) as caught:
            load_labels(path)
        assert caught.value.code == "no-labels-file"
        assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0 cardboard\r\n1 glass bottle\r\n2 metal \r\n", ("cardboard", "glass bottle", "metal")),
        ("0: a\n1: b\n", ("a", "b")),
        ("0,a\n1,b\n", ("a", "b")),
        ("1 euro\n2 euro\n", ("1 euro", "2 euro")),
        ("0 fingers\n1 fingers\n", ("0 fingers", "1 fingers")),
        ("0 a\n1 b\nc", ("0 a", "1 b", "c")),
        ("0 a\n2 b", ("0 a", "2 b")),
        ("0\n1\n10\n", ("0", "1", "10")),
        ("caf\u00e9\t\n a \n\n \n", ("caf\u00e9", "a")),
        ("a\u2028b\nc", ("a\u2028b", "c")),
    ],
)
def test_lines_with_numbers(text: str, names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode())
    assert load_labels(path) == Labels(names)


def test_numbers_against_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("0 zero\n1 one\n10 ten\n" + "".join(f"{number} x{number}\n" for number in range(2, 10)))
    with pytest.raises(UsageError, match="line 3 is '10 ten': the number says class 10, and the line class 2"):
        load_labels(path)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ('["cat", "dog"]', Labels(("cat", "dog"))),
        ('\ufeff{"dog": 1, "cat": 0}', Labels(("cat", "dog"))),
        ('{"1": "dog", "0": "cat"}', Labels(("cat", "dog"))),
        ('{"1": 0, "0": 1}', Labels(("1", "0"))),
        ('{"0": ["n00000002", "cat"], "1": ["n00000001", "dog"]}', Labels(("cat", "dog"), ("n00000002", "n00000001"))),
        ('{"class_indices": {"b": 1, "a": 0}, "epochs": 3}', Labels(("a", "b"))),
        ('{"tfjsVersion": "1.3.1", "labels": ["a", "b"]}', Labels(("a", "b"))),
        ('{"id2label": {"0": "a", "1": "b"}}', Labels(("a", "b"))),
        ('{"labels": 0, "files": 1}', Labels(("labels", "files"))),
    ],
)
@pytest.mark.parametrize("name", ["labels.json", "labels.txt"])
def test_json(text: str, labels: Labels, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_labels(tmp_path / name) == labels


@pytest.mark.parametrize(
    "text",
    [
        "{'cat': 0, 'dog': 1}", '{"cat": 0, "cat": 1}', '{"cat": 0, "dog": 0}', '{"cat": 1, "dog": 2}', "3", '"cat"',
        '{"cat": "0"}', '{"cat": 0.0}', '{"cat": true}', '["cat", 3]', '["cat", " "]', "[" * 100_000, '{"0": ["a"]}',
        "cat", "",
    ],
)  # fmt: skip
def test_json_without_classes(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_labels(tmp_path / "labels.json")
    assert caught.value.code == "bad-labels"


def test_json_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[]")
    with pytest.raises(UsageError) as caught:
        load_labels(tmp_path / "labels.json")
    assert caught.value.code == "labels-empty"


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('\ufeffClassId,Name\r\n1,"Yield, here"\r\n0,Stop\r\n', encoding="utf-8")
    assert load_labels(tmp_path / "labels.csv") == Labels(("Stop", "Yield, here"))
    (tmp_path / "labels.csv").write_text("Stop\nYield\n")
    assert load_labels(tmp_path / "labels.csv") == Labels(("Stop", "Yield"))
