"""Finds the fastest way to run a bundle on this device: engine, precision, threads, spinning.

The rounds of all candidates are interleaved, so that a busy moment of the machine slows all of them alike. After each
stage the slower half is dropped (successive halving: Jamieson and Talwalkar, 2016), and the rest gets more rounds. A
candidate must pass the self-test first.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.cores import cores
from xxdeploy.cpu import cpu_features
from xxdeploy.errors import EngineError, UsageError, XXDeployError
from xxdeploy.runtime.bundle.files import open_signed, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.signature import KeyLike, trust
from xxdeploy.runtime.crash_probe import crash_of
from xxdeploy.runtime.engines.engine_file import FOLDER, RECORD, read_own_engine
from xxdeploy.runtime.engines.providers import listed
from xxdeploy.runtime.engines.select import (
    LITERT,
    PLANS,
    PROVIDERS,
    Settings,
    engine_version,
    installed_engines,
    open_session,
)
from xxdeploy.runtime.engines.session import Session, batch_for
from xxdeploy.runtime.engines.trt import TrtSession
from xxdeploy.runtime.selftest import read_golden, run_selftest
from xxdeploy.runtime.tune_store import Choice, runnable_variants, store_choice

DEFAULT_BUDGET = 30.0
MAX_BUDGET = 3600.0
_GROUP_BYTES = 1 << 30
"""Memory for the sessions of one group, at about twice the model file each."""
_LARGEST_GROUP = 12
_WARM_UP = 2
_FEWEST_ROUNDS, _MOST_ROUNDS = 5, 100
_KEPT = 3
"""Number of finalists, which also race with the next group."""
_TIE = 1.03
"""Times within this factor of the fastest count as equal: then the simpler candidate is taken."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A variant of the bundle in an engine."""

    variant: Variant
    settings: Settings

    def __str__(self) -> str:
        return f"{self.variant.name} on {self.settings}"


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines to try: the ``installed`` ones and those on ``gpus``, and how they are probed and opened.

    ``crash_of`` returns how a variant crashes an engine in another process, or None; ``open_session`` opens a model
    file, ``open_plan`` the engine that a bundle carries.
    """

    installed: tuple[str, ...]
    gpus: tuple[str, ...] = ()
    crash_of: Callable[[Path, Variant, Settings], str | None] = crash_of
    open_session: Callable[[bytes, Manifest, Variant, Settings], Session] = open_session
    open_plan: Callable[..., Session] = TrtSession.from_opened

    @classmethod
    def of_this_device(cls) -> Engines:
        """Return the engines that are installed here."""
        installed = installed_engines()
        return cls(installed, listed_providers() if "onnxruntime" in installed else ())


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate's median ``milliseconds`` of one image in ``rounds`` rounds, or its ``problem``.

    A candidate that was dropped early has fewer rounds, in which other candidates ran.
    """

    candidate: Candidate
    milliseconds: float | None
    rounds: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """The result. ``trials`` has every candidate; ``default`` is the one that ``load`` takes without tuning.

    ``versions`` are those of the engines; ``stored`` is the file that keeps the choice, None where there is none.
    """

    best: Trial
    default: Trial
    trials: tuple[Trial, ...]
    seconds: float
    versions: Mapping[str, str] = field(default_factory=dict)
    stored: Path | None = None

    @property
    def choice(self) -> Choice:
        """Return what is stored."""
        best = self.best.candidate
        times = (trial.milliseconds or 0.0 for trial in (self.best, self.default))
        return Choice(best.variant.name, best.settings, self.versions, *times)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Describe the result for a person."""
        best, default = _milliseconds(self.best), _milliseconds(self.default)
        said = [f"fastest here: {self.best.candidate}, {best:.2f} ms"]
        if self.best.candidate == self.default.candidate:
            said[0] += "; that is the default"
        elif math.isfinite(default):
            said[0] += f"; the default, {self.default.candidate}, takes {default:.2f} ms ({default / best:.2f}x)"
        else:
            said[0] += f"; the default, {self.default.candidate}, does not work here: {self.default.problem}"
        preferred, taken = self.default.candidate.variant, self.best.candidate.variant
        if taken.precision != preferred.precision:
            others = [trial for trial in self.trials if trial.candidate.variant == preferred]
            quickest = min(map(_milliseconds, others))
            if math.isfinite(quickest):
                said.append(
                    f"{preferred.precision.upper()} is not faster on this device ({quickest:.2f} ms at best): "
                    f"{taken.precision.upper()} is taken"
                )
        return tuple(said)


@dataclass(slots=True)
class _Runner:
    candidate: Candidate
    session: Session
    times: list[float] = field(default_factory=list)

    def trial(self) -> Trial:
        return Trial(self.candidate, float(np.median(self.times)) * 1e3, len(self.times))


def tune(
    bundle: str | os.PathLike[str],
    *,
    budget: float = DEFAULT_BUDGET,
    key: KeyLike | None = None,
    min_version: int = 0,
    on_progress: Callable[[float, str], None] | None = None,
) -> Tuning:
    """Measure, and keep the choice for ``load`` in the user's cache folder (:func:`xxdeploy.files.cache_folder`).

    Parameters
    ----------
    budget
        Seconds in all, roughly. The default candidate is measured in any case.
    key, min_version
        As in ``load``.
    on_progress
        Called with the share that is done (0..1) and the candidate that is being measured.

    Raises
    ------
    UsageError
        ``budget-invalid``; else as ``load``.
    BundleError
        As ``load``.
    EngineError
        ``nothing-runs``: no candidate computes the golden outputs.
    """
    if not 0 < budget <= MAX_BUDGET:
        raise UsageError(
            f"the budget must be above 0 and at most {MAX_BUDGET:.0f} seconds, not {budget}",
            hint=f"{DEFAULT_BUDGET:.0f} is a good number",
            code="budget-invalid",
        )
    root, manifest, _ = open_signed(bundle, trust(key, min_version))
    return tune_opened(root, manifest, budget=budget, on_progress=on_progress)


def tune_opened(
    root: Path,
    manifest: Manifest,
    *,
    budget: float = DEFAULT_BUDGET,
    engines: Engines | None = None,
    on_progress: Callable[[float, str], None] | None = None,
) -> Tuning:
    """As ``tune``, for a bundle that is open; ``engines`` are by default those of this device."""
    engines = engines or Engines.of_this_device()
    entries = {entry.path: entry for entry in manifest.files}
    variants = runnable_variants(manifest, cpu_features().union({LITERT}.intersection(engines.installed)))
    models = {variant.model: read_entry(root, entries[variant.model]) for variant in variants}
    candidates = candidates_for(variants, engines.installed, cores(), engines.gpus)
    plan = _own_plan(root, manifest)
    if plan is not None:
        candidates += tuple(Candidate(variant, Settings(plan)) for variant in variants[:1])

    crashes: dict[str, str | None] = {}

    def start(candidate: Candidate) -> Session:
        session: Session
        if candidate.settings.engine == "openvino":  # it has crashed on graphs that ONNX Runtime runs
            if candidate.variant.name not in crashes:
                crashes[candidate.variant.name] = engines.crash_of(root, candidate.variant, candidate.settings)
            if (crash := crashes[candidate.variant.name]) is not None:
                raise EngineError(crash, hint="another engine runs it", code="engine-crash")
        if candidate.settings.engine in PLANS:
            session = engines.open_plan(root, manifest, folder=root / FOLDER, target=plan)
        else:
            model = models[candidate.variant.model]
            session = engines.open_session(model, manifest, candidate.variant, candidate.settings)
        run_selftest(session, root, manifest, candidate.variant)
        return session

    pictures, _ = read_golden(root, manifest, variants[0])
    largest = max(map(len, models.values()))
    tuning = race(
        candidates,
        start,
        lambda session: batch_for(session, manifest.form, pictures[:1]),
        budget=budget,
        together=max(_KEPT + 1, min(_LARGEST_GROUP, _GROUP_BYTES // (2 * largest))),
        on_progress=on_progress or (lambda *_: None),
    )
    tried = dict.fromkeys((*engines.installed, tuning.best.candidate.settings.engine))
    versions = {name: engine_version(name) or "" for name in tried}
    tuning = replace(tuning, versions=versions)
    return replace(tuning, stored=store_choice(manifest, tuning.choice))


def candidates_for(
    variants: Sequence[Variant], engines: Sequence[str], cores: int, gpus: Sequence[str] = ()
) -> tuple[Candidate, ...]:
    """Return every candidate, the default first, so that it is measured even if the budget ends early.

    ``gpus`` are engines on a GPU that may work here. Up to eight cores every number of threads is tried, above that
    powers of two, a half and all. Threads None means all.
    """
    counts: list[int | None] = [None, *(n for n in range(1, cores) if cores <= 8 or n & (n - 1) == 0 or 2 * n == cores)]
    settings: list[Settings] = []
    for threads in counts:
        alone = threads == 1 or cores == 1
        if "onnxruntime" in engines:
            settings += [
                Settings("onnxruntime", threads, spinning) for spinning in ((True,) if alone else (True, False))
            ]
    if LITERT in engines:
        settings += [Settings(LITERT, threads) for threads in counts]
    if "openvino" in engines:
        hints = ("f32", "bf16") if _has_bf16() else ("f32",)
        settings += [Settings("openvino", threads, hint=hint) for threads in counts for hint in hints]
    settings += [Settings(name) for name in gpus]
    # Sorted by setting and not by variant: a budget that ends early cuts off the odd settings of all variants.
    return tuple(
        Candidate(variant, setting)
        for setting in settings
        for variant in variants
        if (LITERT in variant.requires) == (setting.engine == LITERT)
    )


def race(
    candidates: Sequence[Candidate],
    start: Callable[[Candidate], Session],
    batch: Callable[[Session], NDArray[Any]],
    *,
    budget: float,
    together: int,
    on_progress: Callable[[float, str], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Tuning:
    """Race ``candidates``, the first of which is the default, ``together`` at a time. ``EngineError`` ``nothing-runs``.

    ``start`` opens a candidate and runs its self-test; an ``XXDeployError`` of it rules the candidate out.
    """
    began = clock()
    groups = math.ceil(max(0, len(candidates) - together) / (together - _KEPT)) + 1
    trials: dict[Candidate, Trial] = {}
    running: list[_Runner] = []
    left, group = list(candidates), 0
    while left:
        group += 1
        until = began + budget * group / groups
        while left and len(running) < together:
            candidate = left.pop(0)
            if running and clock() - began > budget:
                trials[candidate] = Trial(candidate, None, 0, "no time was left to try it")
                continue
            on_progress(min(1.0, (clock() - began) / budget), str(candidate))
            try:
                session = start(candidate)
                for _ in range(_WARM_UP):
                    session.run(batch(session))
                running.append(_Runner(candidate, session))
            except XXDeployError as error:
                trials[candidate] = Trial(candidate, None, 0, error.message)
        if running:
            running = _halve(running, batch, _KEPT, until, clock, trials)
    for runner in running:
        trials[runner.candidate] = runner.trial()
        runner.session.close()
    ordered = tuple(trials[candidate] for candidate in candidates)
    fastest = min(map(_milliseconds, ordered))
    if not math.isfinite(fastest):
        raise EngineError(
            f"no engine here computes the golden outputs of this bundle; the default: {ordered[0].problem}",
            hint="`xxdeploy verify` and `xxdeploy doctor` say more",
            code="nothing-runs",
        )
    finalists = {runner.candidate for runner in running}
    limit = _TIE * min(_milliseconds(trials[candidate]) for candidate in finalists)
    # Trials are in the order of preference; those that are no finalists were beaten in interleaved rounds.
    best = next(trial for trial in ordered if trial.candidate in finalists and _milliseconds(trial) <= limit)
    on_progress(1.0, str(best.candidate))
    return Tuning(best, ordered[0], ordered, clock() - began)


def _halve(
    running: list[_Runner],
    batch: Callable[[Session], NDArray[Any]],
    keep: int,
    until: float,
    clock: Callable[[], float],
    trials: dict[Candidate, Trial],
) -> list[_Runner]:
    """Interleave the runners and drop the slower half, until ``keep`` are left and have run, too.

    The first is never dropped: the choice is compared with the time of the default.
    """
    while True:
        stages = max(0, math.ceil(math.log2(max(1, len(running)) / keep))) + 1
        _interleave(running, batch, clock() + max(0.0, until - clock()) / stages, clock)
        if len(running) <= keep:
            return running
        ranked = sorted(running, key=lambda runner: float(np.median(runner.times)))
        staying = ranked[: max(keep, math.ceil(len(ranked) / 2))]
        if running[0] not in staying:
            staying[-1] = running[0]
        for runner in running:
            if runner not in staying:
                trials[runner.candidate] = runner.trial()
                runner.session.close()
        running = [runner for runner in running if runner in staying]


def _interleave(
    running: list[_Runner], batch: Callable[[Session], NDArray[Any]], end: float, clock: Callable[[], float]
) -> None:
    for runner in running:
        runner.times.clear()  # medians are compared of the same rounds only
    for number in range(_MOST_ROUNDS):
        if number >= _FEWEST_ROUNDS and clock() > end:
            return
        turn = number % len(running)
        for runner in (*running[turn:], *running[:turn]):  # so that none always follows the same one
            given = batch(runner.session)
            begin = clock()
            runner.session.run(given)
            runner.times.append(clock() - begin)


def _milliseconds(trial: Trial) -> float:
    return math.inf if trial.milliseconds is None else trial.milliseconds


def _has_bf16() -> bool:
    from xxdeploy.runtime.engines.openvino.session import has_bf16

    try:
        return has_bf16()
    except XXDeployError:
        return False


def listed_providers() -> tuple[str, ...]:
    """Return the engines on a GPU that onnxruntime was compiled for, or has a plugin for."""
    import onnxruntime

    return tuple(engine for engine, provider in PROVIDERS.items() if listed(onnxruntime, provider))


def _own_plan(root: Path, manifest: Manifest) -> str | None:
    """Return the library that the bundle's own engine is for; None where it carries none."""
    if not any(entry.path == f"{FOLDER}/{RECORD}" for entry in manifest.files):
        return None
    return read_own_engine(root, manifest)[0].target
