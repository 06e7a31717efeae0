"""``export --target``: the engine is in the bundle, and what cannot be built is refused before the work."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from enginenets import rtx
from faketrt import Device, library
from faketrt import Engine as FakeEngine
from numpy.typing import NDArray

from xxdeploy.cli import main
from xxdeploy.diagnose.verify_bundle import verify_bundle
from xxdeploy.engine import Batch, EngineOptions
from xxdeploy.errors import BundleError, MissingDependencyError, UsageError
from xxdeploy.exporter import ExportOptions, ExportResult, export
from xxdeploy.exporter import trt_engine as device
from xxdeploy.exporter.trt_engine import build_from_bundle, make_engine
from xxdeploy.models.catalog import find
from xxdeploy.results import Ranges
from xxdeploy.runtime import load
from xxdeploy.runtime import tune as tuning
from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.runtime.engines import trt
from xxdeploy.runtime.engines.engine_file import read_engine
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.select import Settings
from xxdeploy.runtime.engines.trt import TrtSession

LENET = find("lenet")
RTX = {"target": "tensorrt-rtx", "gpu": "sm86,sm89", "batch": "1,2,4"}
PLAN = ExportOptions.of("int8", weights="sample", **RTX)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The export of ``PLAN``, made once: copy the bundle before you change it."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return export(LENET, PLAN, folder / "lenet")


@rtx
def test_the_bundle_carries_an_engine_and_the_graph_that_it_is_made_of(exported: ExportResult, tmp_path: Path) -> None:
    first = exported
    said = first.conclusions.sentences[-1]
    assert "tensorrt-rtx" in said
    assert "sm86, sm89, batches of 1 to 4" in said
    assert "100.0 % int8 of the parsed network; the built layers can be looked at on a GPU only" in said
    manifest = verify_bundle(first.bundle).manifest
    assert manifest.name == "lenet-sample-int8-tensorrt-rtx"
    assert [(variant.name, variant.scheme) for variant in manifest.variants] == [("int8", "static-w8c-a8s")]
    model = next(entry for entry in manifest.files if entry.path == "model.onnx")
    record, plan = read_engine(first.bundle / "engine")
    assert record.model_sha256 == model.sha256
    assert len(plan) > 10_000
    assert record.options["batch"] == [1, 2, 4]
    assert manifest.evidence["engine"] == record.proof
    assert load(first.bundle, selftest=True).variant.name == "int8"  # ONNX Runtime reads the same pairs
    # A newer library on the device builds its own from the same graph.
    built = build_from_bundle(first.bundle, EngineOptions(gpus=("sm120",), batch=Batch(1, 2, 4)), tmp_path / "again")
    assert built.engine.options.precision == "int8"


@rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_floats_have_engines_as_well(precision: str, tmp_path: Path) -> None:
    exported = export(LENET, ExportOptions.of(precision, weights="sample", **RTX), tmp_path / "b")
    assert f"100.0 % {precision}" in exported.conclusions.sentences[-1]


@rtx
def test_nothing_is_begun_without_a_gpu_to_build_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xxdeploy.engine.build.driver_problem", lambda _: "there is no CUDA driver")
    seen: list[object] = []
    with pytest.raises(UsageError) as caught:
        export(LENET, PLAN.changed(gpu=None, batch=None), tmp_path / "b", on_progress=seen.append)
    assert caught.value.code == "gpu-needed"
    assert not seen
    assert not (tmp_path / "b").exists()


def test_a_library_that_is_not_there_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError) as caught:
        export(LENET, PLAN.changed(target="tensorrt", gpu=None, batch=None), tmp_path / "b")
    assert "xxdeploy[tensorrt]" in caught.value.hint


@rtx
def test_an_asymmetric_recipe_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('scheme = "static-w8c-a8"\n')
    with pytest.raises(UsageError) as caught:
        export(LENET, PLAN.changed(recipe=str(recipe)), tmp_path / "b")
    assert caught.value.code == "tensorrt-scheme"


@rtx
def test_a_cache_of_an_older_tensorrt_gives_the_ranges(exported: ExportResult, tmp_path: Path) -> None:
    first = exported.bundle
    ranges = Ranges.from_json((first / "calibration.json").read_text()).ranges
    lines = [f"{name}: {struct.pack('>f', max(-low, high) / 127).hex()}" for name, (low, high) in ranges.items()]
    cache = tmp_path / "calibration.cache"
    cache.write_text("\n".join(["TRT-8501-EntropyCalibration2", *lines, ""]))
    second = export(LENET, PLAN.changed(ranges=cache), tmp_path / "b").bundle
    record = json.loads((second / "calibration.json").read_text())
    assert (record["method"], record["images"]) == ("tensorrt-EntropyCalibration2", 0)
    outputs = [load(each).session.run(np.ones((1, 28, 28, 1), np.float32)) for each in (first, second)]
    np.testing.assert_allclose(
        outputs[0], outputs[1], atol=0.01
    )  # one unit in the last place of a step may be another integer
    with pytest.raises(UsageError) as caught:
        PLAN.changed(ranges=cache, method="minmax")
    assert caught.value.code == "ranges-given"


class Loaded:
    """An engine on a made-up GPU: it answers what the graph says, or something else."""

    answers: ClassVar[dict[str, Any]] = {}

    def __init__(self, _plan: bytes, *, target: str, name: str) -> None:
        self.target, self.name = target, name
        self._session = OrtSession(self.answers["model"].to_bytes())

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs = self._session.run(batch)
        return np.roll(outputs, 1, axis=1) if self.answers["wrong"] else outputs


@rtx
@pytest.mark.parametrize("wrong", [False, True])
def test_an_engine_that_runs_here_is_a_stage(wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = make_engine

    def built(model: Any, options: EngineOptions, **rest: Any) -> Any:
        Loaded.answers = {"model": model, "wrong": wrong}
        engine = make(model, options, **rest)
        return replace(engine, facts={**engine.facts, "depth": "engine"})

    monkeypatch.setattr(device, "make_engine", built)
    monkeypatch.setattr(device, "TrtSession", Loaded)
    if wrong:
        with pytest.raises(Exception, match="tensorrt-rtx") as caught:
            export(LENET, PLAN, tmp_path / "b")
        assert getattr(caught.value, "code", None) == "parity"
        return
    exported = export(LENET, PLAN, tmp_path / "b")
    assert exported.rows[-1].runner == "tensorrt-rtx"
    assert exported.rows[-1].agreement == exported.rows[-2].agreement
    assert exported.parities[-1].candidate == "tensorrt-rtx"
    assert "the built layers were looked at" in exported.conclusions.sentences[-1]


@rtx
def test_the_engine_of_a_bundle_is_found(
    exported: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(exported.bundle, tmp_path / "b"))
    gpu = Device()
    monkeypatch.setattr(trt, "import_library", lambda *_: library(FakeEngine(gpu)))
    monkeypatch.setattr(trt, "CudaDevice", lambda: gpu)
    assert TrtSession.from_bundle(bundle).name.startswith("tensorrt-rtx 1.")
    assert load(bundle, engine="tensorrt-rtx").session.name.startswith("tensorrt-rtx 1.")
    with pytest.raises(BundleError) as caught:
        load(bundle, engine="tensorrt")
    assert caught.value.code == "engine-target"
    with pytest.raises(BundleError) as caught:
        TrtSession.from_bundle(bundle, folder=tmp_path)
    assert caught.value.code == "no-engine"
    other = export(LENET, PLAN.changed(samples=30), tmp_path / "c").bundle
    with pytest.raises(BundleError) as caught:
        TrtSession.from_bundle(bundle, folder=other / "engine")
    assert caught.value.code == "engine-of-another-model"
    # What was built on the device goes first, even if it is broken: a silent step back would be slow for no reason.
    (tmp_path / "b-engine").mkdir()
    (tmp_path / "b-engine" / "engine.json").write_text("{}")
    with pytest.raises(BundleError) as caught:
        TrtSession.from_bundle(bundle)
    assert caught.value.code.startswith("manifest-")


@rtx
def test_tune_offers_the_engine_and_takes_it_only_if_it_works(
    exported: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(exported.bundle, tmp_path / "b"))

    def opened(root: Path, _manifest: object, **_: object) -> Any:
        assert root == bundle.resolve()
        return OrtSession((root / "model.onnx").read_bytes(), name="fast")

    plan = Settings("tensorrt-rtx")
    engines = replace(tuning.Engines.of_this_device(), open_plan=opened)
    tuned = tuning.tune_opened(*open_bundle(bundle), budget=60.0, engines=engines)
    trials = {trial.candidate.settings: trial for trial in tuned.trials}
    assert trials[plan].problem is None
    monkeypatch.setenv("XXDEPLOY_CACHE", str(tmp_path / "cache"))
    trials = {trial.candidate.settings: trial for trial in tuning.tune(bundle, budget=1.0).trials}
    if trials[plan].problem is None:
        return  # a machine with a GPU
    assert trials[plan].milliseconds is None
    assert trials[Settings("onnxruntime-cuda")].problem is not None
    assert trials[Settings()].milliseconds is not None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--int8", "--cpu", "arm", "--target", "tensorrt-rtx"], "cpu-and-target"),
        (["--gpu", "sm86"], "target-missing"),
        (["--batch", "4"], "target-missing"),
        (["--target", "tensorrt-rtx", "--gpu", "sm1"], "unknown-gpu"),
        (["--target", "tensorrt-rtx", "--gpu", "sm86", "--batch", "4,1"], "bad-batch"),
        (["--target", "tensorrt", "--gpu", "sm86"], "gpu-without-rtx"),
        (["--int8", "--fp16"], "two-precisions"),
    ],
)
def test_what_does_not_go_together(options: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "lenet", "--weights", "sample", *options]) == 2
    assert f"error[{code}]" in capsys.readouterr().err


@pytest.mark.gpu
@rtx
def test_on_a_card(tmp_path: Path) -> None:
    """Build for the GPU of this machine, prove it, and time it."""
    try:
        exported = export(LENET, PLAN.changed(gpu=None, batch="1,1,16"), tmp_path / "b")
    except UsageError as error:
        if error.code != "gpu-needed":
            raise
        pytest.skip(f"no GPU: {error.message}")
    print(f"\n{exported.rows[-1]}\n{exported.conclusions.sentences[-1]}")  # noqa: T201
    assert exported.rows[-1].runner == "tensorrt-rtx"
    session = TrtSession.from_bundle(exported.bundle)
    assert load(exported.bundle, session=session, selftest=True).session is session
