"""TensorRT and TensorRT for RTX. Experimental: tested on fakes, never run on a card.

Needs the library and NVIDIA's driver, both imported when a session is made. The driver is called through ctypes
(:mod:`xxdeploy.runtime.engines.cuda`), so no other package is needed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError, EngineError
from xxdeploy.optional import import_library
from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.signature import KeyLike, Trust, trust
from xxdeploy.runtime.engines.cuda import CudaDevice
from xxdeploy.runtime.engines.engine_file import engine_of_another_model, find_engine
from xxdeploy.runtime.engines.select import PLANS
from xxdeploy.runtime.engines.session import EngineSession, TensorInfo, unloadable, wrong_signature


class TrtSession(EngineSession):
    """An engine with one input and one output, both float32, ready to run. Experimental: never run on a card.

    Device memory is allocated once, for the largest batch of the profile; larger batches are run in parts, and smaller
    ones than its smallest are filled up. One call at a time: others wait.

    Parameters
    ----------
    plan
        The serialized engine. It can hold code: give bytes whose hash is right (:meth:`from_bundle`).
    target
        Library that built it: ``tensorrt`` or ``tensorrt-rtx``.
    name
        What tables and errors call the session.
    cuda_graph
        True records the work of each batch size once, and replays it: less work for the CPU.
    library, device
        For tests: a library and a GPU instead of the imported library and the first GPU.

    Raises
    ------
    MissingDependencyError
        ``missing-dependency``, ``broken-dependency``, ``no-gpu``.
    EngineError
        ``engine-load``: it is of another version or for another GPU; ``engine-signature``; ``cuda``.
    """

    remedy = "let the bundle's Preprocess make the batch; if it did, build the engine again here"

    def __init__(
        self,
        plan: bytes,
        *,
        target: str = "tensorrt-rtx",
        name: str = "tensorrt",
        cuda_graph: bool = False,
        library: Any = None,
        device: CudaDevice | None = None,
    ) -> None:
        trt = import_library(PLANS[target], target) if library is None else library
        self._device = CudaDevice() if device is None else device
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))  # both must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        here = f"{target} {trt.__version__}"
        if self._engine is None:
            why = "it is of another version or for another GPU"
            raise unloadable(here, name, why, "build the engine here: xxdeploy build BUNDLE")
        inputs, outputs = _tensors(trt, self._engine)
        if len(inputs) != 1 or len(outputs) != 1:
            raise wrong_signature(name, inputs, outputs)
        super().__init__(name, inputs, outputs)
        low, _, high = self._engine.get_tensor_profile_shape(self.input_name, 0)
        self._least, self._most = int(low[0]), int(high[0])
        self._image = self._sides = tuple(map(int, high[1:]))
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise unloadable(here, name, "the GPU has no room for the engine", "free some of its memory")
        answer = self._shape_for(self._most)[1:]
        self._graphs: dict[int, Any] | None = {} if cuda_graph else None
        self._lock = threading.Lock()
        self._buffers = [self._device.allocate(4 * self._most * int(np.prod(shape))) for shape in (self._sides, answer)]
        for tensor, address in zip((self.input_name, self.output_name), self._buffers, strict=True):
            self._context.set_tensor_address(tensor, address)

    @classmethod
    def from_bundle(
        cls,
        bundle: str | os.PathLike[str],
        *,
        folder: str | os.PathLike[str] | None = None,
        target: str | None = None,
        cuda_graph: bool = False,
        key: KeyLike | None = None,
        min_version: int = 0,
    ) -> TrtSession:
        """Load the engine of a bundle, as :meth:`from_opened`; ``key`` and ``min_version`` as in ``runtime.load``.

        ::

            load(bundle, session=TrtSession.from_bundle(bundle))
        """
        required = trust(key, min_version)
        root, manifest = open_bundle(bundle, required)
        return cls.from_opened(root, manifest, trust=required, folder=folder, target=target, cuda_graph=cuda_graph)

    @classmethod
    def from_opened(
        cls,
        root: Path,
        manifest: Manifest,
        *,
        trust: Trust | None = None,
        folder: str | os.PathLike[str] | None = None,
        target: str | None = None,
        cuda_graph: bool = False,
    ) -> TrtSession:
        """Load the engine in ``folder``; None: the one that ``xxdeploy build`` wrote next to the bundle, or its own.

        It must have been built from a model file that the manifest lists, for the library ``target`` (None: any). With
        ``trust``, an engine outside the bundle needs a signature of its own; one inside is listed in the manifest.

        Raises
        ------
        BundleError
            As :func:`xxdeploy.runtime.engines.engine_file.find_engine`; ``engine-of-another-model``; ``engine-target``;
            ``engine-stripped``: its weights were left out.
        """
        where, record, plan = find_engine(root, manifest, folder=folder, trust=trust)
        models = {variant.model for variant in manifest.variants}
        if record.model_sha256 not in {entry.sha256 for entry in manifest.files if entry.path in models}:
            raise engine_of_another_model(where, record.model_sha256)
        if target is not None and record.target != target:
            raise BundleError(
                f"the engine in {where} is for {record.target}, not for {target}",
                hint=f"xxdeploy build BUNDLE --target {target}, or load(..., engine={record.target!r})",
                code="engine-target",
            )
        if record.options.get("strip"):
            raise BundleError(
                f"the engine in {where} was built without its weights",
                hint="build it again without --strip",
                code="engine-stripped",
            )
        return cls(plan, target=record.target, name=f"{record.target} {record.version}", cuda_graph=cuda_graph)

    def _infer(self, feeds: Sequence[NDArray[Any]], count: int) -> list[NDArray[Any]]:
        assert count == 1
        (batch,) = feeds
        with self._lock:
            self._device.make_current()
            starts = range(0, len(batch), self._most)
            return [np.concatenate([self._part(batch[start : start + self._most]) for start in starts])]

    def _release(self) -> None:
        with self._lock:
            while self._buffers:
                self._device.free(self._buffers.pop())
            self._context = self._engine = self._graphs = None

    def _leave(self) -> list[object]:
        left = [self._context, self._engine, self._graphs, self._runtime, self._device]
        self._context = self._engine = self._graphs = None
        self._buffers, self._lock = [], threading.Lock()
        return left

    def _part(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = max(self._least - len(batch), 0)
        filled = np.ascontiguousarray(np.concatenate([batch, np.zeros((missing, *self._sides), np.float32)]))
        shape = self._shape_for(len(filled))
        output = np.empty(shape, np.float32)
        self._device.upload(self._buffers[0], filled)
        self._execute(len(filled))
        self._device.download(output, self._buffers[1])
        self._device.wait()
        return output[: len(batch)]

    def _execute(self, size: int) -> None:
        if self._graphs is None:
            self._enqueue()
            return
        if size not in self._graphs:
            self._enqueue()  # the first run of a shape may allocate, which cannot be recorded
            self._device.wait()
            self._device.begin_capture()
            self._enqueue()
            self._graphs[size] = self._device.end_capture()
        self._device.launch(self._graphs[size])

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._device.stream):
            raise EngineError(f"{self.name} failed on a batch", hint="build the engine again here", code="engine-run")

    def _shape_for(self, size: int) -> tuple[int, ...]:
        """Set the input's shape and return the output's."""
        if not self._context.set_input_shape(self.input_name, (size, *self._sides)):
            raise EngineError(
                f"{self.name} has no profile for a batch of {size}",
                hint="build it with another --batch",
                code="engine-run",
            )
        return tuple(int(side) for side in self._context.get_tensor_shape(self.output_name))


def _tensors(trt: Any, engine: Any) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Return an engine's inputs and outputs; their sides are in its profile."""
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        dtype = engine.get_tensor_dtype(name)
        tensor = TensorInfo(name, "float32" if dtype == trt.float32 else str(dtype), ())
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(tensor)
    return inputs, outputs
