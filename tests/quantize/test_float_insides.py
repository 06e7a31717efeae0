from __future__ import annotations

import numpy as np
import pytest
from quantnets import batches, images, parse, run

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import Scheme, choose_ranges, observe_histograms, quantize
from xxdeploy.quantize.placement import plan_layout

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 16, 16, 3] image) => (float[n, 8, a, b] y) {'
START = "x = Transpose<perm = [0, 3, 1, 2]>(image)  c = Conv(x, w1)"
NORMS = {
    # the products after Keras' layers: x * inv + (beta - mean * inv)
    "layer": """m = ReduceMean<axes = [1]>(c)  d = Sub(c, m)  q = Mul(d, d)  v = ReduceMean<axes = [1]>(q)
        e = Add(v, eps)  s = Sqrt(e)  i = Reciprocal(s)  g = Mul(i, gamma)  p = Mul(c, g)  t = Mul(m, g)
        u = Sub(beta, t)  o = Add(p, u)""",
    "instance": """m = GlobalAveragePool(c)  d = Sub(c, m)  q = Mul(d, d)  v = GlobalAveragePool(q)  e = Add(v, eps)
        s = Sqrt(e)  o = Div(d, s)""",
    "rms": """q = Mul(c, c)  v = ReduceMean<axes = [1]>(q)  e = Add(v, eps)  s = Sqrt(e)  i = Reciprocal(s)
        o = Mul(c, i)""",
    "group": """g5 = Reshape(c, groups)  m = ReduceMean<axes = [2, 3, 4]>(g5)  d = Sub(g5, m)  q = Mul(d, d)
        v = ReduceMean<axes = [2, 3, 4]>(q)  e = Add(v, eps)  s = Sqrt(e)  z = Div(d, s)  o = Reshape(z, whole)""",
}


def network(norm: str) -> OnnxModel:
    """Return convolution, norm, convolution: tensors ``c``, ``o`` and ``y``."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])), np.float32)

    arrays = {
        "w1": weights(8, 3, 3, 3), "w2": weights(8, 8, 3, 3), "eps": np.array(1e-3, np.float32),
        "gamma": rng.uniform(0.5, 1.5, (1, 8, 1, 1)).astype(np.float32), "beta": weights(1, 8, 1, 1),
        "gate": weights(8, 8, 1, 1), "groups": np.array([-1, 2, 4, 14, 14]), "whole": np.array([-1, 8, 14, 14]),
    }  # fmt: skip
    return parse(f"{HEAD} {START} {norm} r = Relu(o)  y = Conv(r, w2) }}", arrays)


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_is_quantized_at_its_borders_only(norm: str) -> None:
    layout = plan_layout(Graph(network(NORMS[norm])), Scheme())
    assert layout.layers == {"c", "y"}
    assert set(layout.scale_of) - {"o", "z"} == {"image", "x", "c", "r", "y"}


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_keeps_thirty_decibels(norm: str) -> None:
    model, batch = network(NORMS[norm]), images()
    histograms = observe_histograms(model, batches(batch), data_digest="", total=len(batch))
    integer = quantize(model, choose_ranges(histograms, "minmax"), Scheme())
    right = run(model, batch)
    noise = np.square(run(integer, batch) - right).sum()
    assert 10 * np.log10(np.square(right).sum() / noise) > 30


def test_a_gate_with_weights_is_no_norm() -> None:
    gate = "m = GlobalAveragePool(c)  f = Conv(m, gate)  s = Sigmoid(f)  o = Mul(c, s)"
    assert plan_layout(Graph(network(gate)), Scheme()).layers == {"c", "m", "f", "o", "y"}


def test_a_residual_sum_is_no_norm() -> None:
    layout = plan_layout(Graph(network("b = Conv<pads = [1, 1, 1, 1]>(c, w2)  o = Add(b, c)")), Scheme())
    assert "o" in layout.layers


def test_the_scores_of_attention_stay_in_float() -> None:
    rng = np.random.default_rng(4)
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n, 6, 8] t) => (float[n, 6, 8] y) {
        q = MatMul(t, wq)  k = MatMul(t, wk)  v = MatMul(t, wv)  scaled = Mul(q, half)
        kt = Transpose<perm = [0, 2, 1]>(k)  scores = MatMul(scaled, kt)  warm = Mul(scores, half)
        p = Softmax(warm)  mixed = MatMul(p, v)  y = MatMul(mixed, wo) }"""
    arrays = {name: rng.standard_normal((8, 8)).astype(np.float32) for name in ("wq", "wk", "wv", "wo")}
    layout = plan_layout(Graph(parse(text, {**arrays, "half": np.array(0.5, np.float32)})), Scheme())
    assert layout.layers == {"q", "k", "v", "y"}
    assert set(layout.scale_of) == {"t", "mixed"}


@pytest.mark.parametrize("squash", ["Sigmoid", "Softmax<axis = 1>", "Tanh"])
def test_what_is_computed_from_probabilities_for_the_outputs_alone_stays_float(squash: str) -> None:
    both = f"{START} p = {squash}(c)  m = Mul(p, minus)  q = Add(m, one)  y = Add(q, p) }}"
    arrays = {
        **dict(network(NORMS["rms"]).split()[1]),
        "minus": np.array([-1], np.float32),
        "one": np.array([1], np.float32),
    }
    layout = plan_layout(Graph(parse(f"{HEAD} {both}", arrays)), Scheme())
    assert layout.layers == {"c"}
    assert set(layout.scale_of) == {"image", "x", "c"}


def test_a_gate_before_a_layer_with_weights_is_quantized() -> None:
    gate = f"{START} p = Sigmoid(c)  m = Mul(p, c)  y = Conv(m, w2) }}"
    arrays = dict(network(NORMS["rms"]).split()[1])
    assert plan_layout(Graph(parse(f"{HEAD} {gate}", arrays)), Scheme()).layers == {"c", "m", "y"}
