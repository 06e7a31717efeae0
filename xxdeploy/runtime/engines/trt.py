"""TensorRT and TensorRT for RTX, behind the seam of ``session.Session``.

Needs the library and NVIDIA's driver; both are imported when a session is made. Nothing else: the driver is called
through ctypes (:mod:`xxdeploy.runtime.engines.cuda`).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError, EngineError
from xxdeploy.optional import import_library
from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.runtime.bundle.signature import KeyLike, trust
from xxdeploy.runtime.engines.cuda import CudaDevice
from xxdeploy.runtime.engines.engine_file import (
    BUILT,
    FOLDER,
    RECORD,
    EngineRecord,
    engine_of_another_model,
    read_engine,
    read_own_engine,
)

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


class TrtSession:
    """An engine with one input and one output, both float32, ready to run.

    Device memory is allocated once, for the largest batch of the profile; larger batches are run in parts, and smaller
    ones than its smallest are filled up. One call at a time: others wait.

    Parameters
    ----------
    plan
        The serialized engine. It can hold code: give bytes whose hash is right (:meth:`from_bundle`).
    target
        ``tensorrt`` or ``tensorrt-rtx``: what it was built with.
    name
        What the session is called in tables and errors.
    cuda_graph
        True records the work of each batch size once, and replays it: less to do for the processor.
    library, device
        For tests: what to use instead of the imported library and of the first GPU.

    Raises
    ------
    MissingDependencyError
        ``missing-dependency``, ``broken-dependency``, ``no-gpu``.
    EngineError
        ``engine-load``: it is of another version or for another GPU; ``engine-signature``; ``cuda``.
    """

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
        trt = import_library(_MODULES[target], target) if library is None else library
        self._device = CudaDevice() if device is None else device
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))  # both must outlive the engine
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(
                f"{target} {trt.__version__} cannot load the engine of {name}",
                hint="it is of another version or for another GPU: build it here (xxdeploy build BUNDLE)",
                code="engine-load",
            )
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [each for each in names if engine.get_tensor_mode(each) == trt.TensorIOMode.INPUT]
        outputs = [each for each in names if each not in inputs]
        if len(inputs) != 1 or len(outputs) != 1 or any(engine.get_tensor_dtype(n) != trt.float32 for n in names):
            raise EngineError(
                f"the engine of {name} has inputs {inputs}, outputs {outputs}; "
                "it must have one float32 input and one float32 output",
                hint="build it from a model that xxdeploy exported",
                code="engine-signature",
            )
        self._engine, self.name = engine, name
        self.input_name: str = inputs[0]
        self.output_name: str = outputs[0]
        low, _, high = engine.get_tensor_profile_shape(self.input_name, 0)
        self._least, self._most = int(low[0]), int(high[0])
        self._image = tuple(int(size) for size in high[1:])
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"{name}: the GPU has no room for the engine", hint="free some of its memory", code="engine-load"
            )
        self._answer = self._shape_for(self._most)[1:]
        self._graphs: dict[int, Any] | None = {} if cuda_graph else None
        self._lock = threading.Lock()
        self._buffers = [self._device.allocate(4 * self._most * int(np.prod(each))) for each in self._shapes()]
        for each, address in zip((self.input_name, self.output_name), self._buffers, strict=True):
            self._context.set_tensor_address(each, address)

    @classmethod
    def _of(cls, record: EngineRecord, plan: bytes, folder: str | os.PathLike[str], *, cuda_graph: bool) -> TrtSession:
        if record.options.get("strip"):
            raise BundleError(
                f"the engine in {folder} was built without its weights",
                hint="build it again without --strip",
                code="engine-stripped",
            )
        return cls(plan, target=record.target, name=f"{record.target} {record.version}", cuda_graph=cuda_graph)

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
        """Load the engine of a bundle: of ``folder``, or else what ``xxdeploy build`` wrote beside it, or its own.

        The manifest is read first, so the engine must belong to a model file that the bundle lists::

            load(bundle, session=TrtSession.from_bundle(bundle))

        ``target`` is the library that it must be for, None for any. With ``key`` the bundle must be signed with it, as
        ``min_version`` or later. An engine inside the bundle is then
        vouched for by the manifest, which lists it; one outside needs a signature of its own.

        Raises
        ------
        BundleError
            As :func:`xxdeploy.runtime.engines.engine_file.read_engine`, and those of an unreadable manifest;
            ``engine-stripped``: its weights were left out.
        """
        asked = trust(key, min_version)
        root, manifest = open_bundle(bundle, asked)
        built = root.with_name(f"{root.name}{BUILT}")
        where = Path(folder) if folder is not None else built if (built / RECORD).is_file() else root / FOLDER
        models = {variant.model for variant in manifest.variants}
        if where == root / FOLDER and (where / RECORD).is_file():
            record, plan = read_own_engine(root, manifest)
        else:
            record, plan = read_engine(where, trust=asked)
        digests = {entry.sha256 for entry in manifest.files if entry.path in models}
        if record.model_sha256 not in digests:
            raise engine_of_another_model(where, record.model_sha256)
        if target is not None and record.target != target:
            raise BundleError(
                f"the engine in {where} is for {record.target}, not for {target}",
                hint=f"xxdeploy build BUNDLE --target {target}, or load(..., engine={record.target!r})",
                code="engine-target",
            )
        return cls._of(record, plan, where, cuda_graph=cuda_graph)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map a preprocessed batch (n, h, w, c) float32 to the output (n, ...) float32.

        Raises
        ------
        EngineError
            ``engine-run``: shape or dtype do not fit, or the engine failed; ``cuda``.
        """
        if batch.dtype != np.float32 or batch.shape[1:] != self._image or not len(batch):
            raise EngineError(
                f"{self.name} takes batches (n, {', '.join(map(str, self._image))}) float32, "
                f"not {batch.shape} {batch.dtype}",
                hint="let the bundle's Preprocess make the batch",
                code="engine-run",
            )
        with self._lock:
            self._device.make_current()
            starts = range(0, len(batch), self._most)
            return np.concatenate([self._part(batch[start : start + self._most]) for start in starts])

    def close(self) -> None:
        """Give the device's memory back. The session is of no use afterwards."""
        while self._buffers:
            self._device.free(self._buffers.pop())

    def _part(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = max(self._least - len(batch), 0)
        filled = np.ascontiguousarray(np.concatenate([batch, np.zeros((missing, *self._image), np.float32)]))
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
        if not self._context.set_input_shape(self.input_name, (size, *self._image)):
            raise EngineError(
                f"{self.name} has no profile for a batch of {size}",
                hint="build it with another --batch",
                code="engine-run",
            )
        return tuple(int(each) for each in self._context.get_tensor_shape(self.output_name))

    def _shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self._image, self._answer
