"""The examples that ship: found in a wheel and in a checkout, copied whole, and never over a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.shipped import copy_example, examples, shipped

ROOT = Path(__file__).resolve().parent.parent


def test_the_installed_folder_goes_before_the_checkout(tmp_path: Path) -> None:
    package = tmp_path / "xxdeploy"
    (tmp_path / "examples").mkdir()  # of another package in site-packages
    with pytest.raises(UsageError) as caught:
        shipped("examples", "mine", package)
    assert caught.value.code == "no-shipped-folder"
    (tmp_path / "examples" / "mine").touch()
    assert shipped("examples", "mine", package) == tmp_path / "examples"
    (package / "_shipped" / "examples" / "mine").mkdir(parents=True)
    assert shipped("examples", "mine", package) == package / "_shipped" / "examples"


def test_each_example_has_a_name_of_its_own_and_a_sentence() -> None:
    files = {path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    known = examples()
    assert {example.file for example in known} == files
    assert len({example.name for example in known}) == len(known)
    assert [example.name for example in known if not 20 < len(example.about) < 110] == []


@pytest.mark.parametrize("name", ["http_service", "cpp_predict", "train_and_export"])
def test_an_example_is_copied_whole(name: str, tmp_path: Path) -> None:
    copy = copy_example(name, tmp_path / "new" / "folder")
    original = next(example.file for example in examples() if example.name == name)
    assert copy == tmp_path / "new" / "folder" / original.name
    assert copy.read_bytes() == original.read_bytes()


def test_no_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "http_service.py").write_text("mine")
    with pytest.raises(UsageError) as caught:
        copy_example("http_service", tmp_path)
    assert caught.value.code == "example-exists"
    assert (tmp_path / "http_service.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("http-service", "did you mean `xxdeploy example http_service`?"), ("../../x", "`xxdeploy example` lists them")],
)
def test_an_unknown_example_is_named(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        copy_example(name, tmp_path)
    assert (caught.value.code, caught.value.hint) == ("unknown-example", hint)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as caught:
        copy_example("http_service", tmp_path / "file")
    assert caught.value.code in ("output-unwritable", "example-exists")
