"""An engine that crashes does so in another process."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.crash_probe import crash_of
from xxdeploy.runtime.engines.select import Settings, open_session
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.tune import Engines, tune_opened


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.abort()", "SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise RuntimeError", None),
        ("", None),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_what_counts_as_a_crash(bundle: Path, code: str, said: str | None) -> None:
    root, manifest = open_bundle(bundle)
    crash = crash_of(root, manifest.variants[0], Settings("openvino"), code=code)
    assert (crash is None) if said is None else (crash is not None and said in crash)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_a_good_model_does_not_crash(bundle: Path) -> None:
    root, manifest = open_bundle(bundle)
    assert crash_of(root, manifest.variants[0], Settings("openvino")) is None


def test_tune_goes_on_without_what_crashes(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XXDEPLOY_CACHE", str(tmp_path / "cache"))
    opened: list[str] = []

    def watched(model: bytes, manifest: Manifest, variant: Variant, settings: Settings) -> Session:
        opened.append(settings.engine)
        return open_session(model, manifest, variant, settings)

    engines = Engines(
        ("onnxruntime", "openvino"),
        crash_of=lambda *_: "openvino crashes on this model (SIGSEGV)",
        open_session=watched,
    )
    root, manifest = open_bundle(bundle)
    tuning = tune_opened(root, manifest, budget=2, engines=engines)
    assert set(opened) == {"onnxruntime"}
    assert tuning.best.candidate.settings.engine == "onnxruntime"
    problems = [trial.problem for trial in tuning.trials if trial.candidate.settings.engine == "openvino"]
    assert problems
    assert all(problem is not None and "crashes" in problem for problem in problems)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_densenet_does_not_crash_openvino(tmp_path: Path, images: Path) -> None:
    """It did, at the first batch normalization of a Concat in integers."""
    from xxdeploy.exporter import ExportOptions, export
    from xxdeploy.models.catalog import find

    plan = ExportOptions.of("int8", weights="none", calibration=images / "plain", cpu="avx2")
    root, manifest = open_bundle(export(find("densenet-bc-40-12"), plan, tmp_path / "dense").bundle)
    assert crash_of(root, manifest.variants[0], Settings("openvino")) is None
