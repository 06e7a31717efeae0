"""The part of the CUDA driver that TensorRT sessions need, through ctypes. Experimental: never run on a card.

Names and meanings are those of the CUDA driver API (``cuMemAlloc`` and so on). The context is the device's primary one,
which TensorRT uses as well.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import EngineError, MissingDependencyError

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class CudaDevice:
    """The first GPU: a context, one stream, memory and copies. Not for several threads at once.

    Raises
    ------
    MissingDependencyError
        ``no-gpu``: no driver, one that does not start, or no GPU.
    """

    def __init__(self, driver: Any = None) -> None:
        self._driver = load_driver() if driver is None else driver
        if self._driver is None:
            raise _no_gpu(f"there is no CUDA driver ({_DRIVER})")
        status = int(self._driver.cuInit(0))
        count = ctypes.c_int()
        if not status:
            status = int(self._driver.cuDeviceGetCount(ctypes.byref(count)))
        if status or not count.value:
            raise _no_gpu(f"the CUDA driver finds no GPU (status {status})")
        device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.make_current()
        self._stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(self._stream), 1)  # CU_STREAM_NON_BLOCKING

    @property
    def stream(self) -> int:
        """Handle of the stream on which everything runs."""
        return int(self._stream.value or 0)

    def make_current(self) -> None:
        """Let the calling thread use the device."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes on the device."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, values: NDArray[np.float32]) -> None:
        """Copy contiguous values to the device, in the order of the stream."""
        source, size = values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(values.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, size, self._stream)

    def download(self, values: NDArray[np.float32], address: int) -> None:
        """Copy from the device into contiguous ``values``, in the order of the stream."""
        target, size = values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(values.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), size, self._stream)

    def wait(self) -> None:
        """Return when everything on the stream is done."""
        self._call("cuStreamSynchronize", self._stream)

    def begin_capture(self) -> None:
        """Record work that is put on the stream from now on, instead of running it."""
        self._call("cuStreamBeginCapture_v2", self._stream, 1)  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

    def end_capture(self) -> Any:
        """Return the recording, ready to be launched."""
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))
        self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_uint64(0))
        self._call("cuGraphDestroy", graph)
        return ready

    def launch(self, graph: Any) -> None:
        """Run a recording on the stream."""
        self._call("cuGraphLaunch", graph, self._stream)

    def _call(self, name: str, *arguments: Any) -> None:
        status = int(getattr(self._driver, name)(*arguments))
        if status:
            raise EngineError(
                f"CUDA's {name} failed with status {status}",
                hint="look at the GPU's memory and its other processes (nvidia-smi)",
                code="cuda",
            )


def load_driver() -> Any:
    """Return the CUDA driver; None where there is none."""
    try:
        return ctypes.CDLL(_DRIVER)
    except OSError:
        return None


def _no_gpu(problem: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"engines run on an NVIDIA GPU: {problem}",
        hint="install NVIDIA's driver, or run the bundle's ONNX model on the processor",
        code="no-gpu",
    )
