"""TensorRT and TensorRT for RTX by one interface. Imported late, and only here and in ``runtime.engines.trt``.

Both have the same Python interface under two module names. Precision belongs to the graph: a network is always
strongly typed, which TensorRT 10 has to be asked for. What cannot be strongly typed is refused: there the precision
would be a flag, and a flag that is silently ignored gives a float32 engine (rf-detr#1453).
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from xxdeploy.errors import EngineError, MissingDependencyError, UsageError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra, import_library
from xxdeploy.runtime.engines.cuda import load_driver
from xxdeploy.runtime.engines.select import PLANS

log = logging.getLogger(__name__)

OLDEST = {"tensorrt": 10, "tensorrt-rtx": 1}
"""The first major version with strongly typed networks."""


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library: ``target`` is a key of ``PLANS``, ``module`` the imported module."""

    target: str
    module: ModuleType
    version: str

    @property
    def is_rtx(self) -> bool:
        """Tell whether it is TensorRT for RTX, which builds for processors that are not there."""
        return self.target == "tensorrt-rtx"

    def logger(self) -> Any:
        """Return a logger that forwards to :mod:`logging`, errors as information: failures are raised."""
        trt = self.module
        levels = {
            trt.Logger.INTERNAL_ERROR: logging.INFO,
            trt.Logger.ERROR: logging.INFO,
            trt.Logger.WARNING: logging.INFO,
            trt.Logger.INFO: logging.DEBUG,
            trt.Logger.VERBOSE: logging.DEBUG,
        }

        class Forward(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.Logger.INTERNAL_ERROR, trt.Logger.ERROR):
                    self.errors.append(message.strip())
                log.log(levels.get(severity, logging.DEBUG), "%s: %s", trt.__name__, message.strip())

        return Forward()


def load_library(target: str) -> Library:
    """Import the library for ``target`` (``tensorrt`` or ``tensorrt-rtx``; else ``UsageError`` ``unknown-target``).

    ``MissingDependencyError``: as ``optional.extra``, also for a missing shared library; ``tensorrt-version``: too old
    for strongly typed networks.
    """
    if target not in PLANS:
        raise UsageError(f"unknown target {target!r}", hint=f"one of {', '.join(PLANS)}", code="unknown-target")
    name = PLANS[target]
    module = import_library(name, target)
    with extra(target):
        if not hasattr(module, "Builder"):
            # The package's own import swallows a missing shared library, or only a folder of that name is there.
            raise ImportError("its shared libraries are missing", name=name)
    version = str(module.__version__)
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST[target]:
        raise MissingDependencyError(
            f"{name} {version} has no strongly typed networks, so nothing proves the precision that it builds",
            hint=f"pip install --upgrade 'xxdeploy[{target}]' (version {OLDEST[target]} or later)",
            code="tensorrt-version",
        )
    return Library(target, module, version)


def driver_problem(library: Library) -> str | None:
    """Return why engines cannot be run here (no GPU, no driver or one that is too old); None if they can.

    Building for RTX needs no GPU. TensorRT proper measures kernels on one, so without it nothing is built.
    """
    cuda = _cuda_error()
    if cuda is not None:
        return cuda
    logger = library.logger()
    runtime = library.module.Runtime(logger)
    return None if runtime is not None and not logger.errors else "; ".join(logger.errors[:1]) or "no runtime"


def explain(target: str) -> str:
    """Say in a sentence whether ``target`` can build and run here: for ``xxdeploy doctor``. Never raises."""
    try:
        library = load_library(target)
    except (MissingDependencyError, UsageError) as error:
        return f"{error.message}: {error.hint} (experimental: never run on a card)"
    state = f"{target} {library.version} "
    try:
        problem = driver_problem(library)
    except Exception as error:  # noqa: BLE001 - the doctor must not fail
        problem = f"{type(error).__name__}: {error}"
    if problem is None:
        state += "builds and runs engines here"
    elif library.is_rtx:
        state += f"builds engines here for the cards that --gpu names, and runs none: {problem}"
    else:
        state += f"is installed and cannot be used: {problem}"
    return f"{state} (experimental: never run on a card)"


def gpu_name() -> str:
    """Return the name and compute capability of the first GPU: the key of its timings. Empty for none."""
    driver = load_driver()
    if driver is None or driver.cuInit(0):
        return ""
    name, device, numbers = ctypes.create_string_buffer(256), ctypes.c_int(), []
    if driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceGetName(name, 256, device):
        return ""
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        number = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        numbers.append(str(number.value))
    return f"{name.value.decode(errors='replace')} {'.'.join(numbers)}"


def _cuda_error() -> str | None:
    """Ask the CUDA driver itself: it is the first thing that is missing, and the libraries only give its number."""
    driver = load_driver()
    if driver is None:
        return "there is no CUDA driver"
    status = int(driver.cuInit(0))
    if status:
        return f"the CUDA driver does not start (status {status}); is a GPU there?"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return None if count.value else "the CUDA driver finds no GPU"


@dataclass(frozen=True, slots=True)
class ParsedNetwork:
    """A network and its owners: destroyed in another order, TensorRT crashes. ``model`` owns the weights' bytes."""

    library: Library
    logger: Any
    builder: Any
    network: Any
    parser: Any
    model: OnnxModel


def parse_network(library: Library, model: OnnxModel) -> ParsedNetwork:
    """Parse ``model``, which must have one input.

    ``EngineError``: ``engine-parse`` (the library does not know an operator, a type or a layout of Q/DQ; or not one
    input), ``engine-build`` (it does not start), ``engine-weak-types`` (it does not hold to the graph's types).
    """
    trt = library.module
    logger = library.logger()
    builder = trt.Builder(logger)
    if not builder:
        raise EngineError(
            f"{library.target} {library.version} does not start: {'; '.join(logger.errors[:2])}",
            hint="`xxdeploy doctor` says which libraries it needs",
            code="engine-build",
        )
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    if flag is not None and not network.get_flag(flag):
        raise EngineError(
            f"{library.target} {library.version} made a network that is not strongly typed",
            hint=f"pip install --upgrade 'xxdeploy[{library.target}]'",
            code="engine-weak-types",
        )
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.to_bytes()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise EngineError(
            f"{library.target} {library.version} cannot read the graph: {_first(errors, logger)}",
            hint="`xxdeploy inspect` shows its operators; report the model if xxdeploy wrote it",
            code="engine-parse",
        )
    if network.num_inputs != 1:
        raise EngineError(
            f"the graph has {network.num_inputs} inputs; an engine of xxdeploy has one",
            hint="export it with xxdeploy",
            code="engine-parse",
        )
    return ParsedNetwork(library, logger, builder, network, parser, model)


def _first(errors: list[Any], logger: Any) -> str:
    if errors:
        error = errors[0]
        node = error.node_name() if hasattr(error, "node_name") else ""
        return f"{error.desc()}{f' (node {node})' if node else ''}"
    return "; ".join(logger.errors[:1]) or "no reason given"
