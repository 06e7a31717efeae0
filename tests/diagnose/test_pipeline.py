"""``diagnose`` takes a model file, a bundle or a network of the catalog."""

from __future__ import annotations

from pathlib import Path

import picturetasks
import pytest
from codes import code_of
from picturetasks import SIDE, NearestMean

from xxdeploy.diagnose.pipeline import diagnose
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.runtime.image.preprocess import CUSTOM, Preprocess
from xxdeploy.runtime.image.scaling import named_scaling

NAMES = tuple("abcdef")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in red and blue, and a model file that takes blue first, 0 to 1."""
    root = tmp_path_factory.mktemp("colors")
    picturetasks.write(root / "val", picturetasks.colors, NAMES)
    preprocess = Preprocess(SIDE, SIDE, 3, CUSTOM, scaling=named_scaling("0..1-bgr", 3))
    NearestMean(root / "val", NAMES, preprocess).save(root / "model.keras")
    return root


def test_a_model_file_whose_scaling_is_unknown(folder: Path) -> None:
    found, orders = diagnose(folder / "model.keras", ExportOptions.of(evaluation=folder / "val"))
    assert (found.chosen.word, found.given, orders.given) == ("0..1-bgr", None, "text")
    assert found.top1 == 1


def test_a_model_file_and_a_bundle_with_the_wrong_scaling(folder: Path, tmp_path: Path) -> None:
    options = ExportOptions.of(evaluation=folder / "val", preprocess="0..1")
    found, _ = diagnose(folder / "model.keras", options)
    assert found.given is not None
    assert (found.given.word, found.chosen.word, found.mends) == ("0..1", "0..1-bgr", True)
    bundle = export(folder / "model.keras", ExportOptions.of(preprocess="0..1"), tmp_path / "bundle").bundle
    of_bundle, _ = diagnose(bundle, ExportOptions.of(evaluation=folder / "val"))
    assert (of_bundle.chosen, of_bundle.top1) == (found.chosen, found.top1)
    assert code_of(diagnose, bundle, options) == "diagnose-options"


def test_pictures_and_classes_are_needed(folder: Path) -> None:
    assert code_of(diagnose, folder / "model.keras", ExportOptions()) == "diagnose-eval"
    features = ExportOptions.of(evaluation=folder / "val", output_layer="sum")
    assert code_of(diagnose, folder / "model.keras", features) == "features-evaluation"


def test_a_network_of_the_catalog(images: Path) -> None:
    options = ExportOptions.of(evaluation=images / "labelled", weights="none", classes=10)
    found, _ = diagnose(find("lenet"), options)
    assert not found.supported
