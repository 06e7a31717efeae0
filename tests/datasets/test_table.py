"""A CSV with one column for each input: what it reads, and the names of its faults."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.datasets import has_labels, infer_labels, open_samples, overlap
from xxdeploy.datasets import table as tables
from xxdeploy.datasets.labels import Labels
from xxdeploy.datasets.table import Table, is_table, measured_spans, numbers_from, read_table, value_from
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput, InputForm, SeveralInputs, parts_of, unpack

PHOTO, META, MAP = Preprocess(2, 3, 3, "none"), ArrayInput((2,)), ArrayInput((2, 2))
FORM = SeveralInputs((("photo", PHOTO), ("meta", META)))
ROWS = "photo,meta,label\na.png,1 2.5,cat\nsub/b.png,-3;4e1,dog\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures and an array, of which one lies in a subfolder."""
    (tmp_path / "sub").mkdir()
    for index, name in enumerate(("a.png", "sub/b.png")):
        Image.fromarray(np.full((2, 3, 3), 10 * index, np.uint8)).save(tmp_path / name)
    np.save(tmp_path / "map.npy", np.arange(4).reshape(2, 2))
    return tmp_path


def opened(folder: Path, text: str, form: InputForm = FORM, **options: Any) -> Table:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    samples = open_samples(folder / "t.csv", form, **options)
    assert isinstance(samples, Table)
    return samples


def fault(folder: Path, text: str, form: InputForm = FORM, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        list(opened(folder, text, form, **options).batches(form, 8))
    return caught.value


def test_pictures_and_numbers(folder: Path) -> None:
    table = opened(folder, "\ufeff" + ROWS, labels=Labels(("dog", "cat")), require_labels=True)
    (batch,) = table.batches(FORM, 8)
    photo, meta = unpack(batch, FORM.shapes)
    assert photo.reshape(2, -1)[:, 0].tolist() == [0, 10]
    assert meta.tolist() == [[1, 2.5], [-3, 40]]
    assert table.labels == (1, 0)
    assert table.names == ("t.csv:2", "t.csv:3")
    assert table.spans() == (None, (-3.0, 40.0))


def test_arrays_from_files(folder: Path) -> None:
    table = opened(folder, "x\nmap.npy\n1 2 3 4\n", MAP)
    assert next(table.batches(MAP, 8)).tolist() == [[[0, 1], [2, 3]], [[1, 2], [3, 4]]]
    assert table.spans() == ((0.0, 4.0),)
    table = opened(folder, "x\nmap.npy\n", MAP)
    assert table.contents() != opened(folder, "x\n0 1 2 3\n", MAP).contents()


def test_one_picture_a_line(folder: Path) -> None:
    table = opened(folder, "file,label\na.png,1\nsub/b.png,0\n", PHOTO)
    assert next(table.batches(PHOTO, 8)).shape == (2, 2, 3, 3)
    assert overlap(open_samples(folder, PHOTO), table)[0][1] == "t.csv:2"


def test_subsets_keep_their_rows(folder: Path) -> None:
    table = opened(folder, ROWS)
    some = table.sample(1)
    assert len(some) == 1
    rest = table.apart_from(some)
    assert rest is not None
    assert set(some.names) | set(rest.names) == set(table.names)
    assert rest.apart_from(rest) is None
    assert table.digest != some.digest


def test_equal_samples_are_found(folder: Path) -> None:
    table = opened(folder, ROWS)
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    other = opened(folder, "meta,photo\n1.0 2.50,copy.png\n1 2,a.png\n")
    assert overlap(table, other) == (("t.csv:2", "t.csv:2"),)


def test_unused_columns_are_said(folder: Path) -> None:
    assert opened(folder, "id,photo,meta\n7,a.png,1 2\n").notes == ("columns of t.csv that no input reads: id",)
    assert opened(folder, ROWS).notes == ()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("photo\na.png\n", "table-columns", "the model reads photo, meta"),
        ("photo,meta\n", "bad-table", "no samples"),
        ("", "bad-table", "its header"),
        ("photo,meta,meta\na.png,1 2,3 4\n", "bad-table", "name of its own"),
        ("photo,meta\na.png,1 2\na.png\n", "bad-table", "line 3 has 1 cells"),
        ('photo,meta\na.png,"1 2\n', "bad-table", "line 2"),
        ("photo,meta\nnone.png,1 2\n", "table-file", "line 2, column photo names none.png"),
        ("photo,meta\n../a.png,1 2\n", "table-path", "'../a.png'"),
        ("photo,meta\nsub/../../a.png,1 2\n", "table-path", "line 2"),
        ("photo,meta\n/etc/passwd,1 2\n", "table-path", "/etc/passwd"),
        ("photo,meta\nC:\\a.png,1 2\n", "table-path", "C:"),
        ("photo,meta\n..\\a.png,1 2\n", "table-path", "line 2"),
        ("photo,meta\n,1 2\n", "table-path", "''"),
        ("photo,meta\na.png,1\n", "table-numbers", "1 numbers, and the input has 2"),
        ("photo,meta\na.png,\n", "table-numbers", "0 numbers"),
        ('photo,meta\na.png,"1,5 2"\n', "table-numbers", "'1,5', which is no number"),
        ("photo,meta\na.png,1 two\n", "table-numbers", "'two', which is no number"),
        ("photo,meta\na.png,1 1_0\n", "table-numbers", "which is no number"),
        ("photo,meta\na.png,1 nan\n", "table-numbers", "NaN"),
        ("photo,meta\na.png,1 1e39\n", "table-numbers", "float32 cannot hold"),
        ("photo,meta\na.png,map.npy\n", "table-array", "its shape is (2, 2)"),
        ("photo,meta\nmap.npy,1 2\n", "image-format", "map.npy"),
    ],
)
def test_a_fault_of_a_table_has_a_name(folder: Path, text: str, code: str, words: str) -> None:
    error = fault(folder, text)
    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize("array", [np.array([1, np.nan]), np.array(["a", "b"]), np.array([None, 1], object)])
def test_a_fault_of_an_array_has_a_name(folder: Path, array: np.ndarray) -> None:
    np.save(folder / "odd.npy", array)
    error = fault(folder, "photo,meta\na.png,odd.npy\n")
    assert error.code == "table-array"
    assert "odd.npy" in error.message
    (folder / "odd.npy").write_bytes((folder / "odd.npy").read_bytes()[:60])
    assert fault(folder, "photo,meta\na.png,odd.npy\n").code == "table-array"


def test_labels(folder: Path) -> None:
    assert fault(folder, "photo,meta\na.png,1 2\n", labels=Labels(("a",)), require_labels=True).code == "table-columns"
    assert fault(folder, ROWS, require_labels=True).code == "labels-missing"
    assert fault(folder, ROWS, labels=Labels(("cat", "cow")), require_labels=True).code == "labels-unknown"
    error = fault(folder, "photo,meta,label\na.png,1 2,\n", labels=Labels(("cat",)), require_labels=True)
    assert (error.code, "line 2 has no label" in error.message) == ("bad-table", True)


def test_labels_without_another_source(folder: Path) -> None:
    path = opened(folder, ROWS).root
    assert has_labels(path)
    names, _ = infer_labels(path, 2)
    assert names == Labels(("cat", "dog"))
    assert infer_labels(path, 3) == (None, ())
    opened(folder, "photo,meta,label\na.png,1 2,2\na.png,1 2,0\n")
    assert infer_labels(path, 4)[0] == Labels(("0", "1", "2", "3"))


def test_a_folder_is_no_table(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_samples(folder, FORM)
    assert caught.value.code == "table-needed"
    assert "photo, meta, label" in caught.value.hint
    assert not is_table(folder)


def test_the_range_of_numbers_is_that_of_the_samples(folder: Path) -> None:
    form, notes = measured_spans(FORM, opened(folder, ROWS))
    assert (parts_of(form)[1][1], notes) == (ArrayInput((2,), (-3.0, 40.0)), ())
    assert measured_spans(PHOTO, None) == (PHOTO, ())
    form, notes = measured_spans(FORM, None)
    assert form == FORM
    assert "range of the numbers of meta" in notes[0]


def test_large_and_unreadable_tables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_BYTES", 20), ("MAX_ROWS", 1), ("MAX_NUMBERS", 3)):
        with monkeypatch.context() as patched:
            patched.setattr(tables, name, value)
            assert fault(folder, ROWS).code == "table-too-large"
    with pytest.raises(UsageError) as caught:
        read_table(folder / "none.csv")
    assert caught.value.code == "no-table"
    (folder / "t.csv").write_bytes(b"photo,meta\n\xff\n")
    with pytest.raises(UsageError, match="UTF-8"):
        read_table(folder / "t.csv")
    assert fault(folder, "photo,meta\n" + "a" * 200_000 + ",1 2\n").code == "bad-table"


def test_values_of_the_command_line(folder: Path) -> None:
    assert value_from("a b.png", PHOTO, "x") == Path("a b.png")
    assert np.asarray(value_from("1; 2", META, "x")).tolist() == [1, 2]
    assert np.asarray(value_from(str(folder / "map.npy"), MAP, "x")).tolist() == [[0, 1], [2, 3]]
    assert numbers_from("-.5", (), "x") == np.float32(-0.5)
