from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from PIL import Image

from xxdeploy.bundle.pack import golden_images
from xxdeploy.cli import main
from xxdeploy.runtime import load

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, pixels in zip(paths, golden_images(2, 8, 8, 3, seed=3), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def test_table(bundle: Path, pictures: list[Path], capsys: Capture) -> None:
    assert main(["predict", str(bundle), *map(str, pictures), "--top", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].split() == ["image", "class", "probability"]
    for picture, (first, second) in zip(pictures, (lines[2:4], lines[4:6]), strict=True):
        best, next_best = load(bundle).predict(picture, top=2)
        assert first.split("  ")[0] == picture.name
        assert f"{best.label} " in first
        assert first.endswith(f"{100 * best.probability:.1f} %")
        assert second.split() == [*next_best.label.split(), f"{100 * next_best.probability:.1f}", "%"]


def test_pictures_of_one_name_are_told_apart_by_their_paths(
    bundle: Path, pictures: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    twin = tmp_path / "other" / pictures[0].name
    twin.parent.mkdir()
    twin.write_bytes(pictures[0].read_bytes())
    assert main(["predict", str(bundle), str(pictures[0]), str(twin), "--top", "1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == [str(pictures[0]), str(twin)]


def test_json(bundle: Path, pictures: list[Path], capsys: Capture) -> None:
    assert main(["predict", "--json", str(bundle), *map(str, pictures)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bundle"] == str(bundle)
    assert [image["image"] for image in answer["images"]] == [str(path) for path in pictures]
    for image, path in zip(answer["images"], pictures, strict=True):
        predictions = [(p["index"], p["label"], p["probability"]) for p in image["top"]]
        assert predictions == [(p.index, p.label, p.probability) for p in load(bundle).predict(path)]


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        ("{bundle} missing.jpg", 2, "image-not-found"),
        ("{bundle} {bundle}/labels.txt", 2, "image-format"),
        ("{bundle} {picture} --top 0", 2, "top-invalid"),
        ("nowhere {picture}", 7, "bundle-not-found"),
        ("{picture} {picture}", 7, "not-a-bundle"),
    ],
)
def test_what_is_wrong_has_its_status(
    bundle: Path, pictures: list[Path], capsys: Capture, line: str, status: int, code: str
) -> None:
    arguments = line.format(bundle=bundle, picture=pictures[0]).split(" ")
    assert main(["predict", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error[{code}]: ")
    assert "\n hint: " in err


def test_a_changed_byte_is_found(bundle: Path, pictures: list[Path], capsys: Capture) -> None:
    with (bundle / "model.onnx").open("r+b") as file:
        file.seek(200)
        file.write(b"\xff")
    assert main(["predict", str(bundle), str(pictures[0]), "--json"]) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == "file-hash"


def test_features_have_no_classes(tmp_path: Path, pictures: list[Path], capsys: Capture) -> None:
    bundle = tiny_bundle.make(tmp_path / "features", features=True)
    assert main(["predict", str(bundle), str(pictures[0])]) == 2
    assert capsys.readouterr().err.startswith("error[wrong-task]: ")


def test_it_needs_only_what_a_device_has(bundle: Path, pictures: list[Path]) -> None:
    code = f"""
import sys
for name in ("tensorflow", "keras", "tf2onnx", "onnx", "h5py"):
    sys.modules[name] = None
from xxdeploy.cli import main
sys.exit(main(["predict", {str(bundle)!r}, {str(pictures[0])!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "class " in done.stdout


@pytest.mark.parametrize(("library", "module"), [("numpy", "numpy"), ("PIL", "PIL"), ("onnxruntime", "onnxruntime")])
def test_without_the_runtimes_libraries(bundle: Path, pictures: list[Path], library: str, module: str) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None
from xxdeploy.cli import main
sys.exit(main(["predict", {str(bundle)!r}, {str(pictures[0])!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert library in done.stderr
    assert "pip install 'xxdeploy[edge]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_picture_for_each_image(pictures: list[Path], tmp_path: Path, capsys: Capture) -> None:
    """The network returns its input, so the written picture is the image."""
    bundle, out = tiny_bundle.make_picture(tmp_path / "b"), tmp_path / "new" / "out.png"
    assert main(["predict", str(bundle), str(pictures[0]), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(pictures[0])))
    folder = tmp_path / "many"
    assert main(["predict", "--json", str(bundle), *map(str, pictures), "--out", str(folder)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [image["out"] for image in answer["images"]] == [str(folder / f"{name}-out.png") for name in "ab"]
    assert sorted(path.name for path in folder.iterdir()) == ["a-out.png", "b-out.png"]


def test_a_mask_is_written_with_its_classes(pictures: list[Path], tmp_path: Path, capsys: Capture) -> None:
    bundle = tiny_bundle.make_picture(tmp_path / "b", classes=3, output_range=None)
    assert main(["predict", str(bundle), str(pictures[0]), "--out", str(tmp_path / "mask.png")]) == 0
    written = Image.open(tmp_path / "mask.png")
    classes = np.asarray(Image.open(pictures[0])).argmax(-1)
    assert written.mode == "P"
    assert np.array_equal(np.asarray(written), classes)
    share = 100 * np.bincount(classes.ravel()).max() / classes.size
    assert f"mask.png: {np.bincount(classes.ravel()).argmax()} {share:.1f} %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "code"), [("a.png", "out-collides"), ("c.nothing", "out-unwritable"), ("a.png/c.png", "out-unwritable")]
)
def test_a_picture_replaces_no_image(
    pictures: list[Path], tmp_path: Path, capsys: Capture, out: str, code: str
) -> None:
    before = pictures[0].read_bytes()
    bundle = tiny_bundle.make_picture(tmp_path / "b")
    assert main(["predict", str(bundle), str(pictures[0]), "--out", str(tmp_path / out)]) == 2
    assert code in capsys.readouterr().err
    assert pictures[0].read_bytes() == before


def test_two_images_of_one_name_have_no_file_each(pictures: list[Path], tmp_path: Path, capsys: Capture) -> None:
    twin = tmp_path / "other" / pictures[0].name
    twin.parent.mkdir()
    twin.write_bytes(pictures[0].read_bytes())
    bundle = tiny_bundle.make_picture(tmp_path / "b")
    assert main(["predict", str(bundle), str(pictures[0]), str(twin), "--out", str(tmp_path / "o")]) == 2
    assert "out-collides" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_numbers_are_printed(pictures: list[Path], tmp_path: Path, capsys: Capture) -> None:
    bundle = tiny_bundle.make_values(tmp_path / "b")
    right = load(bundle).values(pictures[0])[0]
    assert main(["predict", str(bundle), str(pictures[0])]) == 0
    assert capsys.readouterr().out == "a.png: " + " ".join(f"{value:.6g}" for value in right) + "\n"
    assert main(["predict", "--json", str(bundle), str(pictures[0])]) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["values"] == right.tolist()
    assert main(["predict", str(bundle), str(pictures[0]), "--out", "x.png"]) == 2
    assert "wrong-task" in capsys.readouterr().err
