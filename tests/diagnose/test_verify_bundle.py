from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from codes import code_of
from PIL import Image

from xxdeploy.datasets import ImageSet
from xxdeploy.diagnose.verify_bundle import labels_of, verify_bundle
from xxdeploy.results import Accuracy, OnProgress
from xxdeploy.runtime import Runtime, load


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """One image of noise for each class of the tiny bundle."""
    random = np.random.default_rng(0)
    for label in tiny_bundle.LABELS:
        folder = tmp_path / "labeled" / label
        folder.mkdir(parents=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / "0.png")
    return tmp_path / "labeled"


def test_without_images_the_golden_pairs_are_run(bundle: Path) -> None:
    verified = verify_bundle(bundle)
    assert (verified.rows, verified.version) == ((), None)
    assert verified.selftest.max_abs <= verified.selftest.tolerance


def test_the_accuracy_on_images(bundle: Path, labeled: Path) -> None:
    (row,) = verify_bundle(bundle, evaluation=labeled).rows
    runtime = load(bundle)
    correct = sum(runtime.predict(file)[0].label == file.parent.name for file in labeled.rglob("*.png"))
    assert (row.runner, row.top1) == (runtime.session.name, correct / 10)
    assert row.size_bytes == (bundle / "model.onnx").stat().st_size


def test_another_evaluator_measures(bundle: Path, labeled: Path) -> None:
    def evaluator(runtime: Runtime, images: ImageSet, on_progress: OnProgress | None) -> Accuracy:
        assert images.labels == tuple(sorted(range(10), key=lambda index: tiny_bundle.LABELS[index]))
        return Accuracy("elsewhere", 0.5, 1.0, (0,) * len(images))

    (row,) = verify_bundle(bundle, evaluation=labeled, evaluator=evaluator).rows
    assert (row.runner, row.top1, row.top5) == ("elsewhere", 0.5, None)  # ten classes: top-5 says little


def test_a_damaged_bundle_and_features(bundle: Path, labeled: Path, tmp_path: Path) -> None:
    features = tiny_bundle.make(tmp_path / "features", features=True)
    assert code_of(verify_bundle, features, evaluation=labeled) == "features-evaluation"
    assert labels_of(load(features)) is None
    (bundle / "labels.txt").write_text("x")
    assert code_of(verify_bundle, bundle) == "file-size"
