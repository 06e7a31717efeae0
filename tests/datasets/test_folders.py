"""Finding images, and their classes, in folders that people really have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xxdeploy.datasets import Labels, has_labels, labels_from_folders, open_images
from xxdeploy.errors import UsageError

LABELS = Labels(("t-shirt", "ankle boot", "bag"))


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def refused(code: str, root: Path, labels: Labels | None = LABELS) -> str:
    with pytest.raises(UsageError) as caught:
        open_images(root, labels=labels, require_labels=True)
    assert caught.value.code == code
    return f"{caught.value.message} {caught.value.hint}"


def test_class_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    make(tmp_path, "bag/2.png", "bag/1.png", "Ankle_Boot/x/deep.JPG", "t-shirt/a.webp")
    images = open_images(tmp_path, labels=LABELS, require_labels=True)
    assert images.names == ("Ankle_Boot/x/deep.JPG", "bag/1.png", "bag/2.png", "t-shirt/a.webp")
    assert images.labels == (1, 2, 2, 0)
    assert all(path.is_file() for path in images.files)


def test_wordnet_ids(tmp_path: Path) -> None:
    labels = Labels(("x", "y"), ("n00000001", "n00000002"))
    make(tmp_path, "n00000002/a.jpg", "x/b.jpg")
    assert open_images(tmp_path, labels=labels, require_labels=True).labels == (1, 0)


def test_plain_images_do_without_labels(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.png")
    images = open_images(tmp_path)
    assert (images.names, images.labels) == (("a.jpg", "sub/b.png"), None)


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.Png", "a.bmp", "a.webp", "a.gif", "a.tif", "a.TIFF"])
def test_image_suffixes(name: str, tmp_path: Path) -> None:
    assert open_images(make(tmp_path, name)).names == (name,)


def test_what_is_no_image_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, "a.png", ".hidden.png", "._a.png", "notes.txt", "Thumbs.db", ".cache/b.png", "png", "c.png.bak")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone")
    assert open_images(tmp_path).names == ("a.png",)


def test_links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", "b.png")
    root = make(tmp_path / "set", "bag/a.png")
    (root / "bag" / "up").symlink_to(root)
    (root / "bag" / "self").symlink_to(root / "bag")
    (root / "t-shirt").symlink_to(tmp_path / "elsewhere")
    assert open_images(root, labels=LABELS, require_labels=True).names == ("bag/a.png", "t-shirt/b.png")


def test_no_folder(tmp_path: Path) -> None:
    assert "does not exist" in refused("no-folder", tmp_path / "gone")
    assert "is a file" in refused("no-folder", make(tmp_path, "a.png") / "a.png")


def test_no_images(tmp_path: Path) -> None:
    refused("empty-folder", tmp_path)
    make(tmp_path, "readme.txt", "empty/.keep")
    assert "jpg jpeg png" in refused("empty-folder", tmp_path)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "bag/a.png")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("bag"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "bag" in refused("folder-unreadable", tmp_path)


def test_labels_that_match_nothing(tmp_path: Path) -> None:
    make(tmp_path, "hat/a.png", "glove/b.png")
    text = refused("labels-match-nothing", tmp_path)
    assert "'glove', 'hat'" in text
    assert "'t-shirt', 'ankle boot', 'bag'" in text


def test_labels_that_match_in_part(tmp_path: Path) -> None:
    make(tmp_path, "bag/a.png", "glove/b.png")
    assert "1 of the 2 classes" in (text := refused("labels-unknown", tmp_path))
    assert "'glove'" in text


def test_images_beside_the_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "bag/a.png", "loose.png")
    assert "'loose.png'" in refused("images-without-class", tmp_path)


def test_without_labels_classes_mean_nothing(tmp_path: Path) -> None:
    refused("labels-missing", make(tmp_path, "bag/a.png"), labels=None)


def test_labels_from_the_folders(tmp_path: Path) -> None:
    make(tmp_path, "b/1.png", "a/1.png", "empty/readme.txt")
    assert labels_from_folders(tmp_path) == Labels(("a", "b"))
    with pytest.raises(UsageError) as caught:
        labels_from_folders(make(tmp_path / "flat", "1.png"))
    assert caught.value.code == "images-without-class"


def test_whether_a_folder_has_labels(tmp_path: Path) -> None:
    assert has_labels(make(tmp_path / "classes", "a/1.png"))
    assert not has_labels(make(tmp_path / "flat", "1.png"))
    assert not has_labels(make(tmp_path / "mixed", "1.png", "a/1.png"))
    assert has_labels(make(tmp_path / "listed", "1.png", "labels.csv"))


# --- labels.csv -------------------------------------------------------------------------------------------------------


def listed(root: Path, text: str) -> Path:
    make(root, "one.png", "sub/two.png", "three.png")
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "text",
    [
        "file,label\nsub/two.png,Bag\none.png,t-shirt\n",
        "\ufefflabel,note,file\r\nbag,x,./sub/two.png\r\nt_shirt,,one.png\r\n",
        "file,label\nsub\\two.png,2\none.png,0\n",
    ],
    ids=["names", "byte-order-mark", "indices"],
)
def test_a_list_of_files(text: str, tmp_path: Path) -> None:
    images = open_images(listed(tmp_path, text), labels=LABELS, require_labels=True)
    assert (images.names, images.labels) == (("one.png", "sub/two.png"), (0, 2))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "lists no images"),
        ("file,label\n", "lists no images"),
        ("name,class\none.png,bag\n", "columns are name, class"),
        ("file,label\ngone.png,bag\n", "line 2: gone.png"),
        ("file,label\n../one.png,bag\n", "line 2: ../one.png"),
        ("file,label\none.png,bag\n./one.png,bag\n", "listed twice"),
        ("file,label\none.png\n", "line 2 has no file or no label"),
        ('file,label\none.png,"bag', "unexpected end of data"),
    ],
)
def test_a_list_with_faults(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        open_images(listed(tmp_path, text), labels=LABELS, require_labels=True)
    assert caught.value.code == "bad-labels-csv"


def test_a_list_that_is_not_text(tmp_path: Path) -> None:
    make(tmp_path, "one.png")
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,bag\n")
    refused("bad-labels-csv", tmp_path)


def test_a_list_with_classes_of_another_network(tmp_path: Path) -> None:
    assert "'hat'" in refused("labels-match-nothing", listed(tmp_path / "a", "file,label\none.png,hat\n"))
    refused("labels-unknown", listed(tmp_path / "b", "file,label\none.png,hat\nthree.png,bag\n"))
    refused("labels-match-nothing", listed(tmp_path / "c", "file,label\none.png,99\n"))
