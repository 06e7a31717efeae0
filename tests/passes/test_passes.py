"""Each pass on a graph written as ONNX text: what it changes, what it must leave, and that the outputs stay."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.fold_affine import fold_affine, split_batch_norm
from xxdeploy.passes.fold_constants import fold_constants
from xxdeploy.passes.fold_pad import fold_pad
from xxdeploy.passes.fold_reshape import fold_reshape
from xxdeploy.passes.fuse import fuse_batch_norm, fuse_clip, fuse_gemm, fuse_global_pool
from xxdeploy.passes.name_tensors import name_tensors
from xxdeploy.passes.optimize import DEFAULT, Pass, optimize
from xxdeploy.passes.push_transposes import push_transposes
from xxdeploy.passes.remove_dead import remove_dead, remove_identity
from xxdeploy.runtime.engines.ort import OrtSession


def model(signature: str, body: str, **arrays: object) -> OnnxModel:
    """``signature`` is ONNX text such as ``(float[n,4,4,3] x) => (float[n,4,4,3] y)``; ``arrays`` are weights.

    A tuple stands for a seeded random float32 weight of that shape.
    """
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {signature} {{ {body} }}')
    random = np.random.default_rng(0)
    for name, value in arrays.items():
        array = random.normal(size=value).astype(np.float32) if isinstance(value, tuple) else np.asarray(value)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return OnnxModel.from_proto(proto)


def run(before: OnnxModel, *passes: Pass, optimize: bool = False) -> tuple[list[str], list[int]]:
    """Apply passes, compare the outputs on three random images, return the operators left and the counts."""
    graph = Graph(before)
    counts = [step(graph) for step in passes]
    after = graph.to_model()
    shape = [dim.dim_value or 3 for dim in before.proto().graph.input[0].type.tensor_type.shape.dim]
    images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = OrtSession(before.to_bytes(), optimize=False).run(images)
    found = OrtSession(after.to_bytes(), optimize=optimize).run(images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    return [node.op_type for node in graph.nodes], counts


NCHW = "(float[n,3,6,6] x) => (float[n,4,h,w] y)"
SAME = "(float[n,3,6,6] x) => (float[n,3,h,w] y)"


def test_fold_constants_computes_once_and_leaves_what_depends_on_the_input() -> None:
    body = "t = Transpose<perm=[3,2,0,1]>(k) s = Sqrt(v) w = Mul(t, s) y = Conv(x, w)"
    operators, (count,) = run(model(NCHW, body, k=(3, 3, 3, 4), v=np.float32(2.0)), fold_constants)
    assert (operators, count) == (["Conv"], 3)


def test_remove_dead_drops_nodes_weights_and_foreign_opsets() -> None:
    proto = model(SAME, "dead = Mul(x, w) y = Relu(x)", w=(3, 1, 1)).proto()
    proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    graph = Graph(OnnxModel.from_proto(proto))
    assert remove_dead(graph) == 3
    after = graph.to_model().proto()
    assert [node.op_type for node in after.graph.node] == ["Relu"]
    assert [item.domain for item in after.opset_import] == [""]
    assert not after.graph.initializer


def test_remove_identity_keeps_the_names_of_outputs() -> None:
    body = "a = Identity(x) p = Pad(a, z) b = Relu(p) y = Identity(b)"
    operators, (count,) = run(model(SAME, body, z=np.zeros(8, np.int64)), remove_identity)
    assert (operators, count) == (["Relu"], 3)


def test_batch_norm_folds_into_the_convolution_before_it() -> None:
    body = "c = Conv(x, w) y = BatchNormalization<epsilon=0.001>(c, g, b, m, v)"
    weights = {"w": (4, 3, 3, 3), "g": (4,), "b": (4,), "m": (4,), "v": np.array([1, 2, 3, 4], np.float32)}
    operators, counts = run(model(NCHW, body, **weights), split_batch_norm, fold_affine)
    assert (operators, counts) == (["Conv"], [1, 2])


@pytest.mark.parametrize(
    ("body", "arrays"),
    [
        ("c = Conv(x, w) r = Relu(c) s = Mul(c, f) y = Add(r, s)", {"f": (4, 1, 1)}),  # read twice
        ("c = Conv(x, w) y = Mul(c, f)", {"f": (1, 1, 4, 4)}),  # per pixel, not per channel
        ("c = Conv(x, w) r = Relu(c) y = Mul(r, f)", {"f": (4, 1, 1)}),  # an activation between
    ],
)
def test_fold_affine_leaves_what_is_not_a_layer_of_its_own(body: str, arrays: dict[str, object]) -> None:
    _, (count,) = run(model(NCHW, body, w=(4, 3, 3, 3), **arrays), fold_affine)
    assert count == 0


def test_a_shared_weight_is_folded_for_one_reader_only() -> None:
    body = "a = Conv(x, w) b = Mul(a, f) c = Conv(x, w) y = Add(b, c)"
    operators, (count,) = run(model(NCHW, body, w=(4, 3, 3, 3), f=(4, 1, 1)), fold_affine)
    assert (operators, count) == (["Conv", "Conv", "Add"], 1)


PADS = np.array([0, 0, 1, 1, 0, 0, 2, 2])


@pytest.mark.parametrize(
    ("body", "folded"),
    [
        ("p = Pad(x, pads) y = Conv<kernel_shape=[3,3], strides=[2,2]>(p, w)", 1),
        ("p = Pad(x, pads) y = AveragePool<kernel_shape=[3,3]>(p)", 1),
        ("r = Relu(x) p = Pad(r, pads) y = MaxPool<kernel_shape=[3,3]>(p)", 1),
        ("p = Pad(x, pads) y = MaxPool<kernel_shape=[3,3], strides=[2,2]>(p)", 0),  # x can be negative
        ("p = Pad(x, pads, one) y = AveragePool<kernel_shape=[3,3]>(p)", 0),
        ("p = Pad<mode='reflect'>(x, pads) y = AveragePool<kernel_shape=[3,3]>(p)", 0),
        ("p = Pad(x, pads) y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(p)", 0),
    ],
)
def test_fold_pad(body: str, folded: int) -> None:
    arrays = {"pads": PADS, **({"w": (4, 3, 3, 3)} if "Conv" in body else {})}
    if "one" in body:
        arrays["one"] = np.float32(1)
    graph = model(NCHW if "Conv" in body else SAME, body.replace("'", '"'), **arrays)
    # With ONNX Runtime's own optimizations on: it folds a zero Pad into MaxPool, which is wrong (ADR 3).
    operators, (count, _) = run(graph, fold_pad, remove_dead, optimize=True)
    assert count == folded
    assert ("Pad" in operators) == (folded == 0)


def test_fuse_clip() -> None:
    graph = model(SAME, "a = Relu(x) y = Min(a, six)", six=np.float32(6))
    assert run(graph, fuse_clip) == (["Clip"], [1])
    graph = model(SAME, "a = Max(x, low) y = Min(a, six)", low=np.float32(-1), six=np.float32(6))
    assert run(graph, fuse_clip) == (["Clip"], [1])
    graph = model(SAME, "a = Relu(x) b = Min(a, six) y = Add(a, b)", six=np.float32(6))  # a is read twice
    assert run(graph, fuse_clip)[1] == [0]


def test_fuse_gemm_and_global_pool() -> None:
    body = "m = ReduceMean<axes=[2,3], keepdims=0>(x) d = MatMul(m, w) y = Add(b, d)"
    graph = model("(float[n,3,6,6] x) => (float[n,5] y)", body, w=(3, 5), b=(5,))
    assert run(graph, fuse_global_pool, fuse_gemm) == (["GlobalAveragePool", "Flatten", "Gemm"], [1, 1])
    graph = model("(float[n,3,6,6] x) => (float[n,h] y)", "y = ReduceMean<axes=[1,2], keepdims=0>(x)")
    assert run(graph, fuse_global_pool)[1] == [0]


def test_a_scale_and_shift_without_a_layer_becomes_a_batch_norm() -> None:
    graph = model(SAME, "s = Mul(x, f) a = Add(s, t) y = Relu(a)", f=(3, 1, 1), t=(1, 3, 1, 1))
    assert run(graph, fuse_batch_norm) == (["BatchNormalization", "Relu"], [1])


def test_a_target_computed_from_the_batch_size_becomes_constant() -> None:
    body = """s = Shape(x) b = Slice(s, zero, one, zero) t = Concat<axis=0>(b, rest) y = Reshape(x, t)"""
    signature = "(float[n,3,6,6] x) => (float[n,108] y)"
    arrays = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([108])}
    assert run(model(signature, body, **arrays), fold_reshape, remove_dead)[0] == ["Reshape"]


TO, BACK = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"
NHWC = "(float[n,6,6,3] x) => (float[n,h,w,c] y)"


def nhwc(middle: str, tail: str = "z = GlobalAveragePool(m) y = Flatten(z)") -> str:
    """Return a body as tf2onnx writes it: a convolution, ``middle`` in NHWC from ``a`` to ``b``, another one."""
    return f"""xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) {middle} bt = {TO}(b) m = Conv(bt, v) {tail}"""


@pytest.mark.parametrize(
    ("middle", "arrays"),
    [
        ("b = Relu(a)", {}),
        ("s = Mul(a, f) b = Add(t, s)", {"f": (4,), "t": (1, 1, 1, 4)}),
        ("b = Mul(a, f)", {"f": (4, 4, 1)}),
        ("p = Pad(a, pads) b = Slice(p, ones, ends, axes)", {
            "pads": np.array([0, 1, 2, 0, 0, 0, 1, 0]), "ones": np.array([1, 1]), "ends": np.array([5, 99]),
            "axes": np.array([1, -2])}),
        ("r = Relu(a) q = Concat<axis=3>(a, r) g = ReduceMean<axes=[1,2], keepdims=1>(q) h = Mul(q, g) "
         "b = Slice(h, zero, four, last)", {"zero": np.array([0]), "four": np.array([4]), "last": np.array([3])}),
        ("b = Softmax<axis=-1>(a)", {}),
        ("n = ReduceMax<axes=[3], keepdims=1>(a) b = Sub(a, n)", {}),
        ("u = Clip(a) b = PRelu(u, f)", {"f": (1, 1, 4)}),
    ],
)  # fmt: skip
def test_push_transposes_leaves_one(middle: str, arrays: dict[str, object]) -> None:
    signature = "(float[n,6,6,3] x) => (float[n,5] y)"
    graph = model(signature, nhwc(middle), w=(4, 3, 3, 3), v=(5, 4, 1, 1), **arrays)
    operators, _ = run(graph, push_transposes, fold_constants, remove_dead)
    assert operators.count("Transpose") == 1


def test_what_insists_on_nhwc_gets_it() -> None:
    graph = model(NHWC, f"xt = {TO}(x) c = Conv(xt, w) y = {BACK}(c)", w=(4, 3, 3, 3))
    assert run(graph, push_transposes)[0].count("Transpose") == 2  # the output is NHWC
    reduced = model("(float[n,6,6,3] x) => (float[n,h,c] y)",
                    f"xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) r = Relu(a) y = ReduceMean<axes=[1], keepdims=0>(r)",
                    w=(4, 3, 3, 3))  # fmt: skip
    run(reduced, push_transposes)


def test_a_dense_layer_behind_flatten_reads_nchw_through_permuted_rows() -> None:
    body = f"xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) f = Reshape(a, flat) d = MatMul(f, m) y = Add(d, b)"
    arrays = {"w": (4, 3, 3, 3), "flat": np.array([-1, 64]), "m": (64, 5), "b": (5,)}
    graph = model("(float[n,6,6,3] x) => (float[n,5] y)", body, **arrays)
    assert run(graph, push_transposes)[0].count("Transpose") == 1


def test_an_activation_behind_flatten_keeps_the_order_of_nhwc() -> None:
    body = f"xt = {TO}(x) c = Conv(xt, w) a = {BACK}(c) f = Reshape(a, flat) y = Relu(f)"
    graph = model("(float[n,6,6,3] x) => (float[n,64] y)", body, w=(4, 3, 3, 3), flat=np.array([-1, 64]))
    assert run(graph, push_transposes)[0].count("Transpose") == 2


def test_names_come_from_nodes_and_nothing_else_changes() -> None:
    graph = model(NCHW, "[conv1] c = Conv(x, w) y = Relu(c)", w=(4, 3, 3, 3))
    run(graph, name_tensors)
    named = Graph(graph)
    name_tensors(named)
    assert list(named.arrays) == ["conv1/weight"]


def test_optimize_records_every_pass_and_is_repeatable() -> None:
    graph = model("(float[n,6,6,3] x) => (float[n,5] y)", nhwc("b = Relu(a)"), w=(4, 3, 3, 3), v=(5, 4, 1, 1))
    after, records = optimize(graph)
    assert [record.step for record in records] == [step.__name__ for step in DEFAULT]
    assert optimize(graph)[0].digest == after.digest
    again, _ = optimize(after)
    assert [node.op_type for node in again.proto().graph.node] == [node.op_type for node in after.proto().graph.node]
