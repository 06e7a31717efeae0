"""The CUDA driver is asked, and its failures are named. No real card has seen it in CI."""

from __future__ import annotations

import numpy as np
import pytest

from xxdeploy.errors import EngineError, MissingDependencyError
from xxdeploy.runtime.engines.cuda import CudaDevice


class Driver:
    """A CUDA driver that finds ``count`` GPUs, and fails in ``broken``."""

    def __init__(self, count: int = 1, broken: str = "") -> None:
        self.count, self.broken = count, broken

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object) -> int:
            if name == "cuDeviceGetCount":
                arguments[0]._obj.value = self.count  # type: ignore[attr-defined]
            return 2 if name == self.broken else 0

        return call


def test_the_driver_is_asked_and_its_failures_are_named() -> None:
    device = CudaDevice(Driver())
    device.upload(device.allocate(48), np.ones((1, 12), np.float32))
    with pytest.raises(MissingDependencyError) as caught:
        CudaDevice(Driver(count=0))
    assert caught.value.code == "no-gpu"
    with pytest.raises(MissingDependencyError):
        CudaDevice(Driver(broken="cuInit"))
    with pytest.raises(EngineError, match="cuMemAlloc_v2 failed with status 2"):
        CudaDevice(Driver(broken="cuMemAlloc_v2")).allocate(1)
