"""Finding images, and their classes, in folders that people really have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xxdeploy.datasets import Labels, has_labels, infer_labels, open_images
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


@pytest.mark.parametrize(
    "name", ["a.JPG", "a.jpeg", "a.jpe", "a.JFIF", "a.Png", "a.bmp", "a.webp", "a.gif", "a.tif", "a.TIFF", "a.ppm"]
)
def test_image_suffixes(name: str, tmp_path: Path) -> None:
    assert open_images(make(tmp_path, name)).names == (name,)


def test_what_is_no_image_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, "a.png", ".hidden.png", "._a.png", "notes.txt", "Thumbs.db", ".cache/b.png", "png", "c.png.bak")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone")
    assert open_images(tmp_path).names == ("a.png",)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "b/a.png", "b/1.heic", "b/2.HEIC", "notes.txt", "README", ".hidden", "._a.png", "labels.csv")
    images = open_images(tmp_path)
    assert dict(images.left_out) == {".heic": 2, ".txt": 1, "without a suffix": 1}
    (note,) = images.notes
    assert note.startswith(f"4 files were left out of {tmp_path.name}, because")
    assert "2 .heic" in note
    assert "pillow-heif" in note
    assert images.sample(1).notes == images.notes
    assert open_images(make(tmp_path / "b" / "only", "a.png")).notes == ()
    with pytest.raises(UsageError, match=r"no images \(1 file was left out of phone, .*: 1 \.heic"):
        open_images(make(tmp_path / "phone", "a.heic"))


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
    assert "jpg jpeg jpe jfif png" in refused("empty-folder", tmp_path)


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
    assert infer_labels(tmp_path, 2) == (Labels(("a", "b")), ())
    assert infer_labels(tmp_path, 3) == (Labels(("a", "b", "empty")), ())  # a class without pictures is one, too
    with pytest.raises(UsageError) as caught:
        infer_labels(make(tmp_path / "flat", "1.png"), 1)
    assert caught.value.code == "images-without-class"


@pytest.mark.parametrize("names", ["0 1 2 10", "class0 class1 class2 class10", "0_zero 1_one 2_two 10_ten"])
def test_numbered_folders_have_two_orders(names: str, tmp_path: Path) -> None:
    folders = names.split()
    make(tmp_path, *(f"{folder}/a.png" for folder in folders))
    labels, (note,) = infer_labels(tmp_path, 4)
    assert labels == Labels(tuple(sorted(folders)))
    assert f"is {folders[3]!r}. If class" in note
    assert "--class-order numeric" in note
    assert infer_labels(tmp_path, 4, "text") == (labels, ())
    assert infer_labels(tmp_path, 4, "numeric") == (Labels(tuple(folders)), ())


def test_some_of_the_numbered_classes(tmp_path: Path) -> None:
    make(tmp_path, "0/a.png", "10/a.png", "2/a.png")
    labels, notes = infer_labels(tmp_path, 43, "numeric")
    assert (labels, notes) == (Labels(tuple(map(str, range(43)))), ())
    images = open_images(tmp_path, labels=labels, require_labels=True)
    assert images.labels == (0, 10, 2)


def test_folders_that_are_numbers_of_named_classes(tmp_path: Path) -> None:
    labels = Labels(tuple("abcdefghijkl"))
    make(tmp_path / "few", "0/a.png", "2/a.png")
    assert "--class-order numeric" in refused("labels-match-nothing", tmp_path / "few", labels)
    make(tmp_path / "all", *(f"{number}/a.png" for number in range(12)))
    refused("labels-match-nothing", tmp_path / "all", labels)  # as text, folder 10 is class 2
    make(tmp_path / "three", "0/a.png", "1/a.png", "2/a.png")
    found = [
        open_images(tmp_path / folder, labels=names, require_labels=True, class_order=order).labels
        for folder, names, order in (
            ("few", labels, "numeric"),
            ("all", labels, "numeric"),
            ("all", labels, "text"),
            ("three", LABELS, None),  # both orders agree
        )
    ]
    assert found == [(0, 2), (0, 1, 10, 11, *range(2, 10)), tuple(range(12)), (0, 1, 2)]


def test_spellings_of_one_class_are_not_joined(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "A/1.png")
    assert open_images(tmp_path, labels=Labels(("a", "A")), require_labels=True).labels == (1, 0)
    assert "'A', 'a'" in refused("labels-ambiguous", tmp_path, Labels(("a", "b")))
    assert "0 'Bag', 1 'bag'" in refused("labels-ambiguous", make(tmp_path / "x", "BAG/1.png"), Labels(("Bag", "bag")))


def test_names_of_a_mac(tmp_path: Path) -> None:
    decomposed = "cafe\u0301"
    make(tmp_path, f"{decomposed}/1.png")
    assert open_images(tmp_path, labels=Labels(("tea", "caf\u00e9")), require_labels=True).labels == (1,)


def test_whether_a_folder_has_labels(tmp_path: Path) -> None:
    assert has_labels(make(tmp_path / "classes", "a/1.png"))
    assert not has_labels(make(tmp_path / "flat", "1.png"))
    assert not has_labels(make(tmp_path / "mixed", "1.png", "a/1.png"))
    (make(tmp_path / "listed", "1.png") / "labels.csv").write_text("file,label\n1.png,a\n")
    assert has_labels(tmp_path / "listed")


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


@pytest.mark.parametrize(
    ("names", "csv", "classes", "expected"),
    [
        ("b/1.png a/1.png", "b/1.png,b a/1.png,A", 2, ("a", "b")),
        ("b/1.png a/1.png", "b/1.png,0 a/1.png,1", 2, ("b", "a")),
        ("b/1.png a/1.png", "b/1.png,2 a/1.png,1", 3, ("0", "a", "b")),
        ("1/1.png 0/1.png", "1/1.png,0 0/1.png,1", 2, ("0", "1")),
        ("1.png 2.png 3.png", "1.png,2 2.png,0 3.png,0", 3, ("0", "1", "2")),
        ("1.png 2.png", "1.png,dog 2.png,cat", 2, ("cat", "dog")),
        ("1.png 2.png", "1.png,dog 2.png,cat", 3, None),
        ("x/1.png x/2.png", "x/1.png,0 x/2.png,1", 2, ("0", "1")),
    ],
)
def test_labels_of_a_list(names: str, csv: str, classes: int, expected: tuple[str, ...] | None, tmp_path: Path) -> None:
    make(tmp_path, *names.split())
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *csv.split(" ")]))
    labels, notes = infer_labels(tmp_path, classes)
    assert (labels and labels.names, notes) == (expected, ())
    if labels is not None:
        images = open_images(tmp_path, labels=labels, require_labels=True)
        rows = dict(line.split(",") for line in csv.split(" "))
        said = [labels.names[index] for index in images.labels or ()]
        given = [rows[name] for name in images.names]
        assert [name.casefold() for name in given] in (said, [str(index) for index in images.labels or ()])


def test_a_table_of_classes_beside_their_folders(tmp_path: Path) -> None:
    make(tmp_path, "0/a.png", "1/a.png")
    (tmp_path / "labels.csv").write_text("ClassId,Name\n1,Yield\n0,Stop\n")
    labels, notes = infer_labels(tmp_path, 2)
    assert (labels, notes) == (Labels(("Stop", "Yield")), ())
    assert has_labels(tmp_path)
    assert open_images(tmp_path, labels=labels, require_labels=True).labels == (0, 1)
