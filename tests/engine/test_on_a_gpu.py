"""On a real card: engines that are built and run there. Skipped with the reason elsewhere: docs/explanation/gpu.md."""

from __future__ import annotations

import time

import numpy as np
import pytest
from enginenets import pictures, rtx, small, small_int8

from xxdeploy.engine import Batch, EngineOptions
from xxdeploy.engine.library import driver_problem, load_library
from xxdeploy.exporter.trt_engine import make_engine
from xxdeploy.lowering.cast_fp16 import cast_fp16
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.trt import TrtSession

pytestmark = [rtx, pytest.mark.gpu]


@pytest.fixture(autouse=True)
def _a_gpu() -> None:
    if (problem := driver_problem(load_library("tensorrt-rtx"))) is not None:
        pytest.skip(f"no GPU: {problem}")


def model_in(precision: str) -> OnnxModel:
    if precision == "int8":
        return small_int8()
    return small() if precision == "fp32" else cast_fp16(small()).model


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("fp16", 1e-2), ("int8", 3e-2)])
def test_the_engine_computes_what_onnx_runtime_does(precision: str, tolerance: float, cuda_graph: bool) -> None:
    model = model_in(precision)
    engine = make_engine(model, EngineOptions(precision=precision, batch=Batch(1, 4, 4)))
    assert engine.facts["depth"] == "engine"
    session = TrtSession(engine.plan, target="tensorrt-rtx", cuda_graph=cuda_graph)
    reference = OrtSession(model.to_bytes())
    for count in (1, 3, 4, 7, 8):
        batch = pictures(count)
        np.testing.assert_allclose(session.run(batch), reference.run(batch), atol=tolerance)
    session.close()


def test_latency_is_measured() -> None:
    session = TrtSession(make_engine(small_int8(), EngineOptions(precision="int8")).plan, target="tensorrt-rtx")
    batch = pictures(1)
    for _ in range(10):
        session.run(batch)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        session.run(batch)
        times.append(time.perf_counter() - start)
    print(f"\nsmall INT8 engine, one image: {1000 * sorted(times)[25]:.3f} ms")  # noqa: T201
    assert sorted(times)[25] < 0.1
