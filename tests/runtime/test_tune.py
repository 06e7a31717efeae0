"""Tuning with sessions whose speed is known, and with a real bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from xxdeploy.bundle.pack import pack
from xxdeploy.errors import EngineError, UsageError
from xxdeploy.runtime import load
from xxdeploy.runtime import tune as module
from xxdeploy.runtime.bundle.contents import npy_from_array
from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.runtime.bundle.manifest import Variant
from xxdeploy.runtime.engines.select import Settings
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.tune import Candidate, Engines, Tuning, candidates_for, race, tune, tune_opened
from xxdeploy.runtime.tune_store import runnable_variants, stored_choice

INT8 = Variant("int8", "m.onnx", "int8", "static-w8c-a8", "g.npy", ("vnni",))
NARROW = Variant("int8-avx2", "n.onnx", "int8", "static-w8c-a8", "g.npy")
FP32 = Variant("fp32", "f.onnx", "fp32", "float32", "g.npy")
BATCH = np.zeros((1, 2, 2, 3), np.float32)


class Clock:
    """Time that passes only where a session says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[str] = []

    def __call__(self) -> float:
        return self.now

    def start(self, seconds: dict[str, float], *, opening: float = 0.01) -> Callable[[Candidate], Timed]:
        def start(candidate: Candidate) -> Timed:
            self.now += opening
            name = str(candidate)
            if name not in seconds:
                raise EngineError("it does not run", hint="-", code="engine-load")
            return Timed(self, name, seconds[name])

        return start


class Timed(Session):
    def __init__(self, clock: Clock, name: str, seconds: float) -> None:
        self.clock, self.name, self.seconds = clock, name, seconds

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.clock.now += self.seconds
        self.clock.runs.append(self.name)
        return batch


def hold(candidates: tuple[Candidate, ...], seconds: dict[str, float], **options: float) -> tuple[Tuning, Clock]:
    clock = Clock()
    tuning = race(
        candidates,
        clock.start(seconds),
        lambda _: BATCH,
        budget=options.get("budget", 30.0),
        together=int(options.get("together", 12)),
        on_progress=lambda *_: None,
        clock=clock,
    )
    return tuning, clock


def many(count: int) -> tuple[Candidate, ...]:
    return tuple(Candidate(INT8, Settings("onnxruntime", 1 + index)) for index in range(count))


@pytest.mark.parametrize("together", [4, 5, 12, 40])
def test_the_fastest_of_many_wins_whatever_the_size_of_the_groups(together: int) -> None:
    candidates = many(20)
    seconds = {str(candidate): 0.010 + 0.001 * ((7 * index) % 20) for index, candidate in enumerate(candidates)}
    seconds[str(candidates[13])] = 0.005
    tuning, clock = hold(candidates, seconds, together=together)
    assert tuning.best.candidate == candidates[13]
    assert tuning.best.milliseconds == pytest.approx(5)
    assert tuning.default.candidate == candidates[0]
    assert tuning.default.milliseconds == pytest.approx(10)
    assert [trial.candidate for trial in tuning.trials] == list(candidates)
    assert clock.now < 45
    assert tuning.sentences[0].endswith("(2.00x)")


def test_turns_are_interleaved_and_the_slow_leave_early() -> None:
    candidates = many(8)
    seconds = {str(candidate): 0.01 * (1 + index) for index, candidate in enumerate(candidates)}
    tuning, clock = hold(candidates, seconds, budget=10.0)
    rounds = [trial.rounds for trial in tuning.trials]
    assert min(rounds[:3]) > 2 * max(rounds[4:])
    warm_up = 2 * len(candidates)
    assert set(clock.runs[warm_up : warm_up + 8]) == {str(candidate) for candidate in candidates}


def test_a_budget_that_is_too_small_still_measures_the_default() -> None:
    candidates = many(6)
    tuning, _ = hold(candidates, {str(candidate): 1.0 for candidate in candidates}, budget=0.1)
    assert tuning.best.candidate == candidates[0]
    assert tuning.trials[5].problem == "no time was left to try it"
    assert "that is the default" in tuning.sentences[0]


def test_who_does_not_run_or_fails_its_golden_pairs_is_out() -> None:
    candidates = many(3)
    tuning, _ = hold(candidates, {str(candidates[2]): 0.01})
    assert tuning.best.candidate == candidates[2]
    assert tuning.default.problem == "it does not run"
    assert "does not work here: it does not run" in tuning.sentences[0]
    with pytest.raises(EngineError) as caught:
        hold(candidates, {})
    assert caught.value.code == "nothing-runs"


def test_a_tie_goes_to_who_comes_first() -> None:
    candidates = many(3)
    tuning, _ = hold(candidates, dict(zip(map(str, candidates), (0.0102, 0.0100, 0.0101), strict=True)))
    assert tuning.best.candidate == candidates[0]


def test_where_int8_is_not_faster_it_says_so_and_takes_fp32() -> None:
    settings = Settings("onnxruntime")
    candidates = Candidate(INT8, settings), Candidate(FP32, settings)
    tuning, _ = hold(candidates, {str(candidates[0]): 0.02, str(candidates[1]): 0.01})
    assert tuning.best.candidate.variant == FP32
    assert tuning.sentences[1] == "INT8 is not faster on this device (20.00 ms at best): FP32 is taken"


def test_one_variant_of_each_precision_takes_part(tmp_path: Path) -> None:
    _, manifest = tiny_bundle.parts_and_manifest()
    manifest = replace(manifest, variants=(INT8, NARROW, FP32))
    assert runnable_variants(manifest, frozenset({"avx2", "vnni"})) == (INT8, FP32)
    assert runnable_variants(manifest, frozenset({"avx2"})) == (NARROW, FP32)


def test_on_arm_the_float_file_races_with_s8s8_and_litert() -> None:
    _, manifest = tiny_bundle.parts_and_manifest()
    arm = Variant("int8-arm", "a.onnx", "int8", "static-w8c-a8", "g.npy", ("arm",))
    flat = Variant("int8-litert", "m.tflite", "int8", "static-w8c-a8", "g.npy", ("litert",))
    manifest = replace(manifest, variants=(INT8, arm, NARROW, FP32, flat))
    running = runnable_variants(manifest, frozenset({"arm", "dotprod", "litert"}))
    assert running == (arm, FP32, flat)
    candidates = candidates_for(running, ("onnxruntime", "litert"), 4)
    assert candidates[0] == Candidate(arm, Settings())
    assert Candidate(FP32, Settings()) in candidates
    assert Candidate(flat, Settings("litert")) in candidates


def test_candidates_begin_with_the_default() -> None:
    candidates = candidates_for((INT8, FP32), ("onnxruntime",), 4)
    assert candidates[:2] == (Candidate(INT8, Settings()), Candidate(FP32, Settings()))
    on_cpu = [
        candidate.settings
        for candidate in candidates
        if candidate.settings.engine == "onnxruntime" and candidate.variant == INT8
    ]
    assert {(candidate.threads, candidate.spinning) for candidate in on_cpu} == {
        (None, True), (None, False), (1, True), (2, True), (2, False), (3, True), (3, False),
    }  # fmt: skip
    assert {candidate.settings.threads for candidate in candidates_for((INT8,), ("onnxruntime",), 24)} == {
        None,
        1,
        2,
        4,
        8,
        12,
        16,
    }
    single = [candidate.settings for candidate in candidates_for((INT8,), ("onnxruntime",), 1)]
    assert [candidate for candidate in single if candidate.engine == "onnxruntime"] == [Settings()]


@pytest.mark.parametrize("budget", [0.0, -1.0, 1e9, float("nan")])
def test_budgets_that_make_no_sense(tmp_path: Path, budget: float) -> None:
    with pytest.raises(UsageError) as caught:
        tune(tmp_path, budget=budget)
    assert caught.value.code == "budget-invalid"


def two_precisions(out: Path) -> Path:
    """A bundle whose first variant gives other answers than its golden pairs; the second is right."""
    parts, manifest = tiny_bundle.parts_and_manifest()
    wrong = np.frombuffer(parts["golden/portable.npy"][-160:], np.float32).reshape(4, 10)[:, ::-1]
    parts |= {"golden/wrong.npy": npy_from_array(np.ascontiguousarray(wrong))}
    (portable,) = manifest.variants
    bad = replace(portable, name="bad", precision="int8", golden="golden/wrong.npy")
    return pack(replace(manifest, variants=(bad, portable)), parts, out)


def test_a_real_bundle_is_tuned_kept_and_loaded_so(tmp_path: Path) -> None:
    bundle = two_precisions(tmp_path / "b")
    assert load(bundle).variant.name == "bad"
    shares: list[float] = []
    root, manifest = open_bundle(bundle)
    only = Engines(("onnxruntime",))
    tuning = tune_opened(root, manifest, budget=1.0, engines=only, on_progress=lambda share, _: shares.append(share))
    assert tuning.best.candidate.variant.name == "portable"
    assert "does not compute the exported model's outputs" in str(tuning.default.problem)
    assert tuning.stored is not None
    assert shares[-1] == 1.0
    runtime = load(bundle)
    assert runtime.variant.name == "portable"
    assert runtime.settings == tuning.best.candidate.settings
    runtime.selftest()
    for options in ({"tuning": "off"}, {"threads": 1}, {"engine": "onnxruntime"}):
        assert load(bundle, **options).variant.name == "bad"


def test_load_tunes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    asked: list[float] = []
    plain = module.race

    def counted(*args: object, **options: object) -> Tuning:
        asked.append(1.0)
        return plain(*args, **{**options, "budget": 0.2})  # type: ignore[arg-type]

    monkeypatch.setattr(module, "race", counted)
    first, second = load(bundle, tuning="measure"), load(bundle, tuning="measure")
    assert len(asked) == 1
    assert first.settings == second.settings
    choice = stored_choice(first.manifest)
    assert choice is not None
    assert choice.settings == first.settings
