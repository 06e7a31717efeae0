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
    assert {file for example in known for file in example.files} == files
    assert len({example.name for example in known}) == len(known)
    assert [example.name for example in known if not 20 < len(example.about) < 110] == []


@pytest.mark.parametrize("name", ["http_service", "cpp", "train_and_export"])
def test_an_example_is_copied_whole(name: str, tmp_path: Path) -> None:
    copies = copy_example(name, tmp_path / "new" / "folder")
    originals = next(example.files for example in examples() if example.name == name)
    assert [copy.name for copy in copies] == [original.name for original in originals]
    assert [copy.read_bytes() for copy in copies] == [original.read_bytes() for original in originals]


def test_no_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "http_service.py").write_text("mine")
    with pytest.raises(UsageError) as caught:
        copy_example("http_service", tmp_path)
    assert caught.value.code == "example-exists"
    assert (tmp_path / "http_service.py").read_text() == "mine"
    (tmp_path / "xxdeploy.hpp").write_text("mine")
    with pytest.raises(UsageError):
        copy_example("cpp", tmp_path)
    assert not (tmp_path / "predict.cc").exists(), "all files, or none"


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
    assert caught.value.code == "example-exists"
    with pytest.raises(UsageError) as caught:
        copy_example("http_service", tmp_path / "file" / "inside")
    assert caught.value.code == "output-unwritable"
