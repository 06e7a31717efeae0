"""Each pipeline in ``docs/how-to/pictures.md`` gives the pixels of a bundle with the options that stand above it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image, ImageOps

from xxdeploy.exporter.inputs import sizing_of
from xxdeploy.exporter.option_groups import NetworkOptions
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import RESAMPLES
from xxdeploy.runtime.image.sizing import RESIZES

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "how-to" / "pictures.md").read_text(encoding="utf-8")
PIPELINE = re.compile(
    r"^Options `(?P<options>[^`]+)`, (?P<close>[^(:]+).*?:\n\n```python\n(?P<code>.*?)\n```", re.M | re.S
)
PIPELINES = [match.groupdict() for match in PIPELINE.finditer(PAGE)]
SIZES = ((96, 128), (120, 90), (301, 517), (97, 96), (640, 480), (33, 200))


def test_the_page_has_pipelines() -> None:
    assert len(PIPELINES) == 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(root / f"{number}.png")
    return root


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline["code"].split("(")[0][-20:])
def test_a_bundle_sees_the_pixels_of_the_pipeline(pipeline: dict[str, str], folder: Path) -> None:
    paths = sorted(folder.iterdir())
    names: dict[str, Any] = {"np": np, "Image": Image, "ImageOps": ImageOps}
    for name, library in (("keras", "keras"), ("tf", "tensorflow"), ("cv2", "cv2")):
        if f"{name}." in pipeline["code"]:
            names[name] = pytest.importorskip(library)
    found: dict[str, Any] = {}
    exec(pipeline["code"], names | {"folder": folder, "paths": paths}, found)
    words = shlex.split(pipeline["options"])
    given: dict[str, Any] = {
        name[2:].replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    if "crop_fraction" in given:
        given["crop_fraction"] = float(given["crop_fraction"])
    sizing = sizing_of(ExportOptions.of(**given))
    preprocess = Preprocess(96, 128, mode="none", sizing=sizing)
    theirs = [np.asarray(pixel, np.float32) for pixel in found["pixels"]]
    allowed = float(pipeline["close"].split()[1]) if pipeline["close"].startswith("within") else 0
    assert len(theirs) == len(paths)
    for path, expected in zip(paths, theirs, strict=True):
        np.testing.assert_allclose(preprocess.batch([path])[0], expected, rtol=0, atol=allowed, err_msg=path.name)


def test_the_tables_and_the_command_line_have_all_names() -> None:
    tables = re.findall(r"^\| `([a-z][a-z-]*)", PAGE.split("### The names")[1].split("\n### ")[0], re.MULTILINE)
    hints = get_type_hints(NetworkOptions)
    resamples, resizes = (get_args(get_args(hints[name])[0]) for name in ("resample", "resize"))
    assert resamples == RESAMPLES
    assert resizes == RESIZES
    assert set(tables) == {*RESAMPLES, *RESIZES}
