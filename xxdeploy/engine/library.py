"""TensorRT and TensorRT for RTX by one interface. Imported late, and only here and in ``runtime.engines.trt``.

Both have the same Python interface under two module names. Precision belongs to the graph: a network is always
strongly typed, which TensorRT 10 has to be asked for. What cannot be strongly typed is refused: there the precision
would be a flag, and a flag that is silently ignored gives a float32 engine (rf-detr#1453).
"""

from __future__ import annotations

import ctypes
import logging
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from xxdeploy.errors import MissingDependencyError, UsageError
from xxdeploy.optional import extra, import_library

log = logging.getLogger(__name__)

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The targets, and the module that builds for each. The extra is called as the target is."""

OLDEST = {"tensorrt": 10, "tensorrt-rtx": 1}
"""The first major version with strongly typed networks."""


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library: ``target`` is a key of :data:`MODULES`, ``module`` the imported module."""

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
    """Import the library for ``target`` (``tensorrt`` or ``tensorrt-rtx``).

    Raises
    ------
    UsageError
        ``unknown-target``.
    MissingDependencyError
        ``missing-dependency``: absent; ``broken-dependency``: present, but a shared library of it cannot be loaded;
        ``tensorrt-version``: too old for strongly typed networks.
    """
    if target not in MODULES:
        raise UsageError(f"unknown target {target!r}", hint=f"one of {', '.join(MODULES)}", code="unknown-target")
    name = MODULES[target]
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
    return f"{_state(target)} (experimental: never run on a card)"


def _state(target: str) -> str:
    try:
        library = load_library(target)
    except (MissingDependencyError, UsageError) as error:
        return f"{error.message}: {error.hint}"
    try:
        problem = driver_problem(library)
    except Exception as error:  # noqa: BLE001 - the doctor must not fail
        problem = f"{type(error).__name__}: {error}"
    if problem is None:
        return f"{target} {library.version} builds and runs engines here"
    if library.is_rtx:
        return (
            f"{target} {library.version} builds engines here for the cards that --gpu names, and runs none: {problem}"
        )
    return f"{target} {library.version} is installed and cannot be used: {problem}"


def gpu_name() -> str:
    """Return the name and compute capability of the first GPU: the key of its timings. Empty for none."""
    driver = _driver()
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
    driver = _driver()
    if driver is None:
        return "there is no CUDA driver"
    status = int(driver.cuInit(0))
    if status:
        return f"the CUDA driver does not start (status {status}); is a GPU there?"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return None if count.value else "the CUDA driver finds no GPU"


def _driver() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
