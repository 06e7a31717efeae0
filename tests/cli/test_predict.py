from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
