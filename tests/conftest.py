"""Fixtures that more than one test file uses."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from xxdeploy.exporter import ExportOptions, ExportResult

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

# A busy machine is no fault of the code, so no example has a deadline.
settings.register_profile("xxdeploy", deadline=None)
settings.load_profile("xxdeploy")

# Keras reads KERAS_HOME when it is imported; TensorFlow reads its log level then.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if (SHARED / "keras-home").is_dir():
    os.environ.setdefault("KERAS_HOME", str(SHARED / "keras-home"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real weights and images; skips where it is absent (CI has it)."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data (real weights and ImageNet images, not for release) is absent")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep calibration results of tests out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def _draw(folder: Path, count: int, seed: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(random.integers(0, 256, (30, 32), dtype=np.uint8)).save(folder / f"{index}.png")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``plain/`` for calibration (20), ``labeled/`` with ten class folders of two images each."""
    root = tmp_path_factory.mktemp("images")
    _draw(root / "plain", 20, 0)
    for index in range(10):
        _draw(root / "labelled" / f"class-{index}", 2, 100 + index)
    return root


@pytest.fixture(scope="session")
def lenet_options(images: Path) -> ExportOptions:
    """INT8 LeNet with random weights, for every kind of processor, with labeled images."""
    from xxdeploy.exporter import ExportOptions

    return ExportOptions.of("int8", weights="none", calibration=images / "plain", evaluation=images / "labelled")


@pytest.fixture(scope="session")
def lenet_export(lenet_options: ExportOptions, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The export of ``lenet_options``, made once: copy the bundle before you change it."""
    from xxdeploy.exporter import export
    from xxdeploy.models.catalog import find

    folder = tmp_path_factory.mktemp("lenet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return export(find("lenet"), lenet_options, folder / "lenet-int8")


@pytest.fixture(scope="session")
def lenet_bundle(lenet_export: ExportResult) -> Path:
    """The bundle of ``lenet_export``."""
    return lenet_export.bundle


@pytest.fixture(scope="session")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``scripts/make_conformance.py`` writes: copy what you change."""
    pytest.importorskip("ai_edge_litert", reason="pip install 'xxdeploy[litert]': the suite has LiteRT files")
    pytest.importorskip("cryptography", reason="pip install 'xxdeploy[sign]': the suite has signatures")
    import make_conformance

    folder = tmp_path_factory.mktemp("conformance") / "suite"
    make_conformance.write(folder)
    return folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Fake libraries for ``xxdeploy doctor``, all of which work: ``install(name, source)`` replaces one."""
    from xxdeploy.doctor.checkup import LIBRARIES

    folder = tmp_path / "site"
    folder.mkdir()

    def install(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)

    for name in LIBRARIES:
        install(name, "__version__ = '1.2'\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter(()))
    return install


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The bundle of ``tiny_bundle``, made in milliseconds, in the folder ``tiny``."""
    import tiny_bundle

    return tiny_bundle.make(tmp_path / "tiny")
