"""ONNX to a TensorRT plan: parse, prove the precision, build. Experimental: never run on a card."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from xxdeploy.engine.library import Library, ParsedNetwork, driver_problem, load_library, parse_network
from xxdeploy.engine.options import Engine, EngineOptions
from xxdeploy.engine.proof import PrecisionProof, check_precision, check_size, prove_precision
from xxdeploy.errors import EngineError, MissingDependencyError, UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import OnProgress, Progress

log = logging.getLogger(__name__)


def build_engine(
    model: OnnxModel,
    options: EngineOptions,
    *,
    timing_cache: bytes | None = None,
    on_progress: OnProgress | None = None,
) -> Engine:
    """Build ``model`` as ``options`` ask, once its parsed network has proved to be in the precision asked for.

    ``timing_cache`` is an earlier engine's ``timing_cache`` (TensorRT only): it saves measuring kernels again.

    Raises
    ------
    MissingDependencyError
        As :func:`~xxdeploy.engine.library.load_library`, and ``no-gpu``: the library needs one for these options.
    UsageError
        ``gpu-needed``: neither ``--gpu`` nor a GPU that is here; ``batch-fixed``: the graph has one batch size only.
    EngineError
        ``engine-parse``, ``engine-precision``, ``engine-build``.
    """
    library = check_engine_options(options)
    parsed = parse_network(library, model)
    proof = prove_precision(parsed)
    check_precision(proof, options.precision)
    config = parsed.builder.create_builder_config()
    _configure(parsed, config, options)
    cache = None if library.is_rtx else _set_timing_cache(library, config, timing_cache)
    monitor = None if on_progress is None else progress_monitor(library, on_progress)
    if monitor is not None:
        config.progress_monitor = monitor
    start = time.perf_counter()
    serialized = parsed.builder.build_serialized_network(parsed.network, config)
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if serialized is None:
        raise EngineError(
            f"{library.target} {library.version} cannot build the engine: "
            f"{'; '.join(parsed.logger.errors[:2])[:400] or 'no reason given'}",
            hint="leave out the GPU or the option that it names; --workspace, if it lacks memory",
            code="engine-build",
        )
    plan = bytes(serialized)
    log.info("engine of %d bytes in %.1f s", len(plan), time.perf_counter() - start)
    if not options.strip:
        check_size(proof, len(plan), options.precision)
    return Engine(
        plan=plan,
        options=options,
        version=library.version,
        model_digest=model.digest,
        facts=proof_facts(proof, len(plan)),
        timing_cache=None if cache is None else bytes(cache.serialize()),
    )


def proof_facts(proof: PrecisionProof, size: int) -> dict[str, object]:
    """Return the proved facts, for manifest and report. ``depth`` says that no built layer was looked at."""
    return {
        "depth": "network",
        "shares": {name: round(share, 6) for name, share in proof.shares.items()},
        "macs": proof.macs,
        "layers": len(proof.works),
        "float_layers": [work.name for work in proof.works if work.precision == "fp32"][:32],
        "weight_bytes": proof.weight_bytes,
        "float_weight_bytes": proof.float_bytes,
        "engine_bytes": size,
    }


def check_engine_options(options: EngineOptions) -> Library:
    """Return the library that builds for ``options``; errors as :func:`build_engine`, before minutes of other work."""
    library = load_library(options.target)
    needs = "weights that can be exchanged" if options.strip or options.refit else None
    if options.gpus and needs is None:
        return library
    problem = driver_problem(library)
    if problem is None:
        return library
    if options.gpus:
        raise MissingDependencyError(
            f"{library.target} {library.version} makes engines with {needs} on a GPU only: {problem}",
            hint="leave --strip and --refit out, or build on the device (`xxdeploy build BUNDLE`)",
            code="no-gpu",
        )
    if library.is_rtx:
        raise UsageError(
            f"there is no GPU to build for: {problem}",
            hint="name the cards: --gpu sm86,sm89 (sm75, sm80, sm86, sm89, sm120, sm121)",
            code="gpu-needed",
        )
    raise MissingDependencyError(
        f"TensorRT {library.version} is installed, but builds on a GPU only: {problem}",
        hint="build on the device (`xxdeploy build BUNDLE`); --target tensorrt-rtx builds without a GPU",
        code="no-gpu",
    )


def _configure(parsed: ParsedNetwork, config: Any, options: EngineOptions) -> None:
    trt = parsed.library.module
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    # A plan that works in every version usually brings a runtime of its own, code that would be run on loading it.
    asked = {"VERSION_COMPATIBLE": options.any_version, "EXCLUDE_LEAN_RUNTIME": options.any_version}
    asked |= {"STRIP_PLAN": options.strip, "REFIT": options.refit}
    for name, wanted in asked.items():
        if wanted:
            config.set_flag(_known(parsed, trt.BuilderFlag, name))
    if options.any_gpu:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.gpus:
        config.num_compute_capabilities = len(options.gpus)
        for index, gpu in enumerate(options.gpus):
            config.set_compute_capability(_known(parsed, trt.ComputeCapability, gpu.upper()), index)
    # The inspector of a built engine then knows the types of each layer.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _set_profile(parsed, config, options)


def _known(parsed: ParsedNetwork, names: Any, name: str) -> Any:
    """Return a value of one of the library's enumerations. A version without it must not pass over it in silence."""
    value = getattr(names, name, None)
    if value is None:
        raise EngineError(
            f"{parsed.library.target} {parsed.library.version} does not know {name}",
            hint="leave the option out, or install another version",
            code="engine-option",
        )
    return value


def _set_profile(parsed: ParsedNetwork, config: Any, options: EngineOptions) -> None:
    tensor = parsed.network.get_input(0)
    shape = tuple(tensor.shape)
    if -1 not in shape:
        if shape[0] != options.batch.opt or options.batch.min != options.batch.max:
            raise UsageError(
                f"the graph takes batches of {shape[0]} only",
                hint=f"--batch {shape[0]},{shape[0]},{shape[0]}, or export it with xxdeploy: the batch is free then",
                code="batch-fixed",
            )
        return
    if -1 in shape[1:]:
        raise EngineError(
            f"the graph leaves more than the batch open: input {tensor.name} {shape}",
            hint="export it with a fixed size (--input-size)",
            code="engine-parse",
        )
    profile = parsed.builder.create_optimization_profile()
    sizes = ((size, *shape[1:]) for size in (options.batch.min, options.batch.opt, options.batch.max))
    profile.set_shape(tensor.name, *sizes)
    config.add_optimization_profile(profile)


def _set_timing_cache(library: Library, config: Any, content: bytes | None) -> Any:
    """Attach a timing cache; one of another version or GPU is refused by the library, and an empty one taken."""
    if content:
        cache = config.create_timing_cache(content)
        if cache and config.set_timing_cache(cache, False):
            return cache
        log.warning("the timing cache is of another version or GPU, or damaged: %s measures again", library.target)
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return cache


def progress_monitor(library: Library, report: OnProgress) -> Any:
    """Return an ``IProgressMonitor`` that hands the outermost phases of a build to ``report``.

    The builder calls it from several threads. A report that raises (Ctrl-C) ends the build: the monitor answers that
    it is to stop, and ``failure`` holds the exception.
    """
    base = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.failure: BaseException | None = None
            self._lock = threading.Lock()
            self._phases: dict[str, tuple[int, bool]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = (max(num_steps, 1), parent_phase is None)
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.failure is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, None)

        def _tell(self, phase: str, done: int | None) -> None:
            with self._lock:
                total, outermost = self._phases.get(phase, (1, False))
                if not outermost or self.failure is not None:
                    return
                try:
                    # The end is told once, by phase_finish: a bar that is full is taken away.
                    report(Progress(f"engine: {phase}", total if done is None else min(done, total - 1), total))
                except BaseException as error:  # noqa: BLE001 - raised again by the builder's caller
                    self.failure = error

    return Monitor()
