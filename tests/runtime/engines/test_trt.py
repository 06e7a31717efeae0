"""TrtSession's own work, on a GPU made of numpy: shapes, batches, buffers, graphs. No real card has seen it in CI."""

from __future__ import annotations

import numpy as np
import pytest
from faketrt import IMAGE, Device, Engine, library
from numpy.typing import NDArray

from xxdeploy.errors import EngineError, UsageError
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
    made, sent = session(cuda_graph=cuda_graph), batch(count)
    for _ in range(3):
        np.testing.assert_array_equal(made.run(sent), 2 * sent.reshape(count, 12))


def test_memory_is_allocated_once_and_given_back() -> None:
    device = Device()
    made = session(device=device)
    first = set(device.memory)
    for count in (1, 9, 4):
        made.run(batch(count))
    assert set(device.memory) == first
    assert sorted(len(buffer) for buffer in device.memory.values()) == [4 * 4 * 12, 4 * 4 * 12]
    made.close()
    made.close()
    assert not device.memory
    with pytest.raises(UsageError, match="is closed") as caught:
        made.run(batch(2))
    assert caught.value.code == "closed"


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
