"""``export --with litert``: the file in the bundle, its proof, and its use on a device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xxdeploy.errors import EngineError
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.pipeline import export
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load

pytest.importorskip("ai_edge_litert", reason="pip install 'xxdeploy[litert]': there is no LiteRT to run the files")


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def carrying(request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("litert") / str(request.param)
    weights = {"weights": "none", "calibration": images / "plain", "evaluation": images / "labelled"}
    if request.param != "int8":
        del weights["calibration"]
    options = ExportOptions.of(request.param, more="litert", **weights)
    result = export(find("lenet"), options, out)
    assert [row.runner for row in result.rows][-1] == ("litert-int8" if request.param == "int8" else "litert-fp32")
    assert result.rows[-1].agreement is not None
    assert result.rows[-1].agreement > 0.8  # of 20 images
    return out


def test_the_file_gives_the_answers_of_the_others(carrying: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.uint8)
    with load(carrying, tuning="off") as usual, load(carrying, engine="litert", selftest=True) as other:
        assert other.variant.requires == ("litert",)
        assert (other.variant.inputs[0].shape, usual.variant.inputs[0].shape) == ((1, 28, 28, 1), (None, 28, 28, 1))
        assert usual.variant.requires != ("litert",)
        np.testing.assert_allclose(other.probabilities(image), usual.probabilities(image), atol=0.05)


def test_no_other_engine_opens_the_file(carrying: Path) -> None:
    with load(carrying, engine="litert") as runtime:
        name = runtime.variant.name
    with pytest.raises(EngineError) as caught:
        load(carrying, variant=name, engine="onnxruntime")
    assert caught.value.code == "litert-file"
