"""An emulation without the pairs that given images cannot overflow: exact there, and NaN beyond."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from quantnets import batches, images, parse, residual, run

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.x86.processors import observe_saturation
from xxdeploy.quantize.x86.reach import HARMLESS, observe_reach
from xxdeploy.quantize.x86.saturation import emulate_avx2, rewrite, risky_by_output

DIM = (0.4 * images(6)).astype(np.float32)


@pytest.fixture(scope="module", params=["static-w8c-a8", "static-w8c-a8i"])
def int8(request: pytest.FixtureRequest) -> OnnxModel:
    model, seen = residual(), batches(images(12))
    return quantize(model, calibrate(model, seen, data_digest="d"), scheme(request.param))


def emulated_pairs(model: OnnxModel, seen: NDArray[np.float32] | None) -> int:
    graph = Graph(model)
    risky = risky_by_output(graph)
    reach = None if seen is None else observe_reach(model, risky, batches(seen))
    return sum(len(value) - 1 for name, value in rewrite(graph, risky, reach=reach)[0].split()[1].items()
               if name.endswith("_signs"))  # fmt: skip


def test_fewer_pairs_have_the_same_answers_on_the_images_that_were_seen(int8: OnnxModel) -> None:
    assert emulated_pairs(int8, DIM) < emulated_pairs(int8, None)
    np.testing.assert_array_equal(run(emulate_avx2(int8, batches(DIM)), DIM), run(emulate_avx2(int8), DIM))


def test_an_image_beyond_the_reach_has_no_answer_instead_of_a_wrong_one(int8: OnnxModel) -> None:
    guarded = emulate_avx2(int8, batches(np.zeros_like(DIM[:1])))
    for image in images(12):
        answer = run(guarded, 3 * image[np.newaxis])
        assert np.isnan(answer).all() or np.array_equal(answer, run(emulate_avx2(int8), 3 * image[np.newaxis]))
    assert np.isnan(run(guarded, 3 * images(12))).all()
    assert np.isfinite(run(guarded, np.zeros_like(DIM))).all()


def test_the_reach_is_that_of_the_stored_integers_with_a_margin(int8: OnnxModel) -> None:
    risky = risky_by_output(Graph(int8))
    assert risky
    for name, values in observe_reach(int8, risky, batches(images(12))).items():
        assert ((values >= HARMLESS) & (values <= 255)).all()
        assert values.size in (1, *risky[name].values.shape, risky[name].values.shape[0])
    assert HARMLESS * 2 * 127 < 32767


def test_what_is_observed_is_the_same_with_all_pairs(int8: OnnxModel) -> None:
    observed = observe_saturation(int8, batches(DIM))
    risky = risky_by_output(Graph(int8))
    assert {layer.name for layer in risky.values()} == {name for name, seen in observed.items() if seen.pairs}
    bright = observe_saturation(int8, batches(images(12)))
    assert sum(seen.share for seen in bright.values()) >= sum(seen.share for seen in observed.values())


def test_an_output_that_a_quantizer_writes_is_guarded_under_its_own_name() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    model = parse(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 16, 16, 3] image) => (float[n, 8, 14, 14] y) {
        x = Transpose<perm = [0, 3, 1, 2]>(image)  y = Conv(x, w) }""",
        {"w": weights},
    )
    seen = batches(images(12))
    int8 = quantize(model, calibrate(model, seen, data_digest="d"), scheme("static-w8c-a8"))
    guarded = emulate_avx2(int8, seen)
    assert any(node.op_type == "Where" for node in Graph(guarded).nodes)
    names = [node.name for node in Graph(guarded).nodes]
    assert len(names) == len(set(names))
    np.testing.assert_array_equal(run(guarded, images(12)), run(emulate_avx2(int8), images(12)))
