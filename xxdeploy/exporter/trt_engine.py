"""The engine of an export: built, run where there is a GPU for it, and put into the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from xxdeploy.engine import Engine, check_engine_options
from xxdeploy.engine.record import engine_files
from xxdeploy.exporter.engine_files import make_engine
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.stages import Remembered
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import OnProgress, Parity, Runner
from xxdeploy.runtime.engines.engine_file import FOLDER
from xxdeploy.runtime.engines.trt import TrtSession
from xxdeploy.verify import Tolerance, check, compare


def check_engine(options: ExportOptions) -> None:
    """Refuse before any work what the engine's library would refuse at the end of it; nothing without an engine.

    Raises
    ------
    MissingDependencyError, UsageError
        As :func:`xxdeploy.engine.check_engine_options`.
    """
    if (engine := options.gpu.engine) is not None:
        check_engine_options(replace(engine, precision=options.precision.name))


def export_engine(
    options: ExportOptions, model: OnnxModel, report: OnProgress
) -> tuple[Engine | None, tuple[Runner, ...]]:
    """Build the engine that ``options`` asks for, and load it if it is for the GPU of this machine.

    Without an engine, or where it is for other GPUs, there is nothing to run.

    Raises
    ------
    XXDeployError
        As ``make_engine`` and ``TrtSession``.
    """
    if options.gpu.engine is None:
        return None, ()
    engine = make_engine(model, replace(options.gpu.engine, precision=options.precision.name), on_progress=report)
    if engine.facts["depth"] != "engine":
        return engine, ()
    return engine, (TrtSession(engine.data, target=options.gpu.engine.target, name=options.gpu.engine.target),)


def prove_engine(
    reference: Remembered, runners: Sequence[Runner], batches: Sequence[NDArray[np.float32]], tolerance: Tolerance
) -> tuple[Parity, ...]:
    """Compare the engine with Keras, and judge it, where it runs here.

    Raises
    ------
    VerificationError
        As ``prove_stage``.
    """
    parities = tuple(compare(reference, runner, batches) for runner in runners)
    for parity in parities:
        check(parity, tolerance)
    return parities


def bundled_engine(engine: Engine | None) -> Mapping[str, bytes]:
    """Return the engine's files by their path in the bundle."""
    return {} if engine is None else {f"{FOLDER}/{name}": data for name, data in engine_files(engine).items()}


def engine_sentence(engine: Engine) -> str:
    """Say what was built, for what, and how its precision was proved."""
    facts, options = engine.facts, engine.options
    shares = facts["shares"]
    assert isinstance(shares, Mapping)
    said = ", ".join(f"{100 * share:.1f} % {name}" for name, share in shares.items())
    cards = ", ".join(options.gpus) or "this machine's GPU"
    depth = (
        "of the parsed network; the built layers can be looked at on a GPU only, and the times above are those of its "
        "ONNX on this processor"
    )
    if facts["depth"] == "engine":
        depth = "of the parsed network, and the built layers were looked at"
    return (
        f"engine: {options.target} {engine.version} for {cards}, batches of {options.batch.min} to "
        f"{options.batch.max}, {engine.size / 1e6:.1f} MB; {said} {depth}"
    )
