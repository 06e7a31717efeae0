"""A TensorRT and a GPU made of numpy: an engine that doubles its input, with a profile of 2 to 4 images."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

IMAGE = (2, 2, 3)


class Device:
    """What ``CudaDevice`` offers, in host memory; ``calls`` says in which order it was used."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.recording: list[Any] | None = None
        self.stream = 7

    def make_current(self) -> None:
        self.calls.append("current")

    def allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        del self.memory[address]

    def upload(self, address: int, values: NDArray[np.float32]) -> None:
        assert values.flags.c_contiguous
        assert values.nbytes <= len(self.memory[address])
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
        self.calls.append("upload")

    def download(self, values: NDArray[np.float32], address: int) -> None:
        assert values.nbytes <= len(self.memory[address])
        ctypes.memmove(values.ctypes.data, address, values.nbytes)
        self.calls.append("download")

    def wait(self) -> None:
        self.calls.append("wait")

    def begin_capture(self) -> None:
        self.recording = []

    def end_capture(self) -> Any:
        recording, self.recording = self.recording, None
        return recording

    def launch(self, graph: Any) -> None:
        self.calls.append("launch")
        for work in graph:
            work()


class Context:
    def __init__(self, device: Device) -> None:
        self.device, self.size = device, 0
        self.addresses: dict[str, int] = {}
        self.works = True

    def set_input_shape(self, _name: str, shape: tuple[int, ...]) -> bool:
        self.size = shape[0]
        return 2 <= shape[0] <= 4 and shape[1:] == IMAGE

    def get_tensor_shape(self, _name: str) -> tuple[int, ...]:
        return (self.size, 12)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self.device.stream
        count = self.size * 12

        def work() -> None:
            source = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses["image"]))
            target = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses["probabilities"]))
            target[:] = 2 * source

        if self.device.recording is not None:
            self.device.recording.append(work)
        else:
            self.device.calls.append("execute")
            work()
        return self.works


class Engine:
    num_io_tensors = 2

    def __init__(self, device: Device, names: tuple[str, ...] = ("image", "probabilities"), kind: str = "f32") -> None:
        self.device, self.names, self.kind = device, names, kind
        self.num_io_tensors = len(names)
        self.context: Context | None = Context(device)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_dtype(self, _name: str) -> str:
        return self.kind

    def get_tensor_profile_shape(self, _name: str, _profile: int) -> list[tuple[int, ...]]:
        return [(2, *IMAGE), (2, *IMAGE), (4, *IMAGE)]

    def create_execution_context(self) -> Context | None:
        return self.context


def library(engine: Engine | None) -> Any:
    """Return the module: ``deserialize_cuda_engine`` gives ``engine``, whatever the plan."""
    logger = type("Logger", (), {"ERROR": 1, "__init__": lambda *_: None})
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda _: engine)
    return SimpleNamespace(
        __version__="11.0",
        Logger=logger,
        Runtime=lambda _: runtime,
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        float32="f32",
    )
