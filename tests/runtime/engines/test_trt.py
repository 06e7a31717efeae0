"""TrtSession's own work, on a GPU made of numpy: shapes, batches, buffers, graphs. No real card has seen it in CI."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from faketrt import IMAGE, Device, Engine, library
from numpy.typing import NDArray

from xxdeploy.errors import BundleError, EngineError, MissingDependencyError
from xxdeploy.runtime.engines.cuda import CudaDevice
from xxdeploy.runtime.engines.engine_file import read_engine, record_from_json
from xxdeploy.runtime.engines.trt import TrtSession


def session(engine: Engine | None = None, device: Device | None = None, *, cuda_graph: bool = False) -> TrtSession:
    gpu = device or Device()
    return TrtSession(
        b"plan",
        library=library(engine or Engine(gpu)),
        device=gpu,  # type: ignore[arg-type]
        cuda_graph=cuda_graph,
    )


def batch(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, *IMAGE)).astype(np.float32)


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_every_batch_size_gives_its_own_rows(count: int, cuda_graph: bool) -> None:
    made, data = session(cuda_graph=cuda_graph), batch(count)
    for _ in range(3):
        np.testing.assert_array_equal(made.run(data), 2 * data.reshape(count, 12))


def test_memory_is_allocated_once_and_given_back() -> None:
    device = Device()
    made = session(device=device)
    first = set(device.memory)
    for count in (1, 9, 4):
        made.run(batch(count))
    assert set(device.memory) == first
    assert sorted(len(each) for each in device.memory.values()) == [4 * 4 * 12, 4 * 4 * 12]
    made.close()
    assert not device.memory


def test_nothing_is_read_before_the_device_is_done() -> None:
    device = Device()
    session(device=device).run(batch(2))
    assert device.calls == ["current", "upload", "execute", "download", "wait"]


def test_a_graph_is_recorded_once_for_each_batch_size() -> None:
    device = Device()
    made = session(device=device, cuda_graph=True)
    for count in (2, 2, 3, 2):
        made.run(batch(count))
    assert device.calls.count("execute") == 2
    assert device.calls.count("launch") == 4


def test_a_batch_that_is_not_a_list_is_not_contiguous_or_of_another_type() -> None:
    made = session()
    turned = np.ascontiguousarray(batch(3).transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(made.run(turned), 2 * batch(3).reshape(3, 12))
    for wrong in (batch(2).astype(np.float64), batch(2)[:, 1:], batch(0)):
        with pytest.raises(EngineError) as caught:
            made.run(wrong)
        assert caught.value.code == "engine-run"


def test_engines_that_cannot_be_used() -> None:
    device = Device()
    no_room, fails = Engine(device), Engine(device)
    no_room.context = None
    assert fails.context is not None
    fails.context.works = False
    for engine, code in (
        (Engine(device, ("image",)), "engine-signature"),
        (Engine(device, ("image", "a", "b")), "engine-signature"),
        (Engine(device, kind="f16"), "engine-signature"),
        (no_room, "engine-load"),
    ):
        with pytest.raises(EngineError) as caught:
            session(engine, device)
        assert caught.value.code == code
    with pytest.raises(EngineError, match="cannot load"):
        TrtSession(b"plan", library=library(None), device=device)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="failed on a batch"):
        session(fails, device).run(batch(2))


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
    device.upload(device.allocate(48), batch(1))
    with pytest.raises(MissingDependencyError) as caught:
        CudaDevice(Driver(count=0))
    assert caught.value.code == "no-gpu"
    with pytest.raises(MissingDependencyError):
        CudaDevice(Driver(broken="cuInit"))
    with pytest.raises(EngineError, match="cuMemAlloc_v2 failed with status 2"):
        CudaDevice(Driver(broken="cuMemAlloc_v2")).allocate(1)


RECORD = {
    "schema": 1,
    "plan": {"sha256": "6e" * 32, "size": 4},
    "model_sha256": "ab" * 32,
    "target": "tensorrt-rtx",
    "version": "1.7",
    "options": {},
    "proof": {},
}


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"target": "cuda"},
        {"plan": {"sha256": "../x", "size": 4}},
        {"plan": {"sha256": "6e" * 32, "size": -1}},
        {"plan": {"sha256": "6e" * 32}},
        {"version": 11},
        {"more": 1},
        {"options": []},
    ],
)
def test_a_record_is_read_strictly(change: dict[str, object]) -> None:
    assert record_from_json(json.dumps(RECORD)).version == "1.7"
    with pytest.raises(BundleError):
        record_from_json(json.dumps({**RECORD, **change}))


def test_a_plan_is_loaded_only_if_its_hash_is_right(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        read_engine(tmp_path)
    assert caught.value.code == "no-engine"
    (tmp_path / "engine.json").write_text(json.dumps(RECORD))
    (tmp_path / "engine.plan").write_bytes(b"evil")
    with pytest.raises(BundleError) as caught:
        read_engine(tmp_path)
    assert caught.value.code == "file-hash"
