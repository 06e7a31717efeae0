"""A LiteRT file in its engine: the checks of every session, and the bundle that carries one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from litertnets import network, weights
from quantnets import parse, run

from xxdeploy.errors import BundleError, EngineError, UsageError
from xxdeploy.lowering.litert.write import to_litert
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.litert import LitertSession
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.select import installed_engines


@pytest.fixture(scope="module")
def flat() -> bytes:
    return to_litert(network("c = Conv(x, w) y = Relu(c)", "float[n, 4, 7, 6]", {"w": weights(4, 3, 3, 3)}))


def test_a_batch_runs_picture_by_picture(flat: bytes) -> None:
    model = network("c = Conv(x, w) y = Relu(c)", "float[n, 4, 7, 6]", {"w": weights(4, 3, 3, 3)})
    batch = np.random.default_rng(0).standard_normal((5, 9, 8, 3)).astype(np.float32)
    session = LitertSession(flat)
    assert (session.input_name, session.output_names) == ("image", ("y",))
    np.testing.assert_allclose(session.run(batch), run(model, batch), atol=1e-5)


def test_several_inputs_run_together() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n, 4, 4, 3] image, float[n, 5] numbers) => (float[n, 8] y)
    { x = Transpose<perm = [0, 3, 1, 2]>(image) p = GlobalAveragePool(x) f = Flatten(p)
      y = Concat<axis = 1>(f, numbers) }"""
    model = parse(text, {})
    rows = np.random.default_rng(0).standard_normal((3, 53)).astype(np.float32)
    answer, right = LitertSession(to_litert(model)).run(rows), OrtSession(model.to_bytes()).run(rows)
    np.testing.assert_allclose(answer, right, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 9, 9, 3), (0, 9, 8, 3), (9, 8, 3)])
def test_a_wrong_batch_is_refused(flat: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError) as caught:
        LitertSession(flat).run(np.zeros(shape, np.float32))
    assert caught.value.code == "engine-run"


@pytest.mark.parametrize("damage", ["empty", "cut", "not a flatbuffer"])
def test_a_damaged_file_is_refused(flat: bytes, damage: str) -> None:
    content = {"empty": b"", "cut": flat[: len(flat) // 2], "not a flatbuffer": b"\x00" * 1000}[damage]
    with pytest.raises(EngineError) as caught:
        LitertSession(content)
    assert caught.value.code == "engine-load"


def test_a_closed_session_is_refused(flat: bytes) -> None:
    session = LitertSession(flat)
    session.close()
    with pytest.raises(UsageError) as caught:
        session.run(np.zeros((1, 9, 8, 3), np.float32))
    assert caught.value.code == "closed"


def test_litert_is_among_the_engines() -> None:
    assert "litert" in installed_engines()


def test_a_bundle_without_the_file_says_how_to_get_it(lenet_bundle: Path) -> None:
    with pytest.raises(BundleError) as caught:
        load(lenet_bundle, engine="litert")
    assert (caught.value.code, caught.value.hint) == ("no-variant", "export again with --with litert")
