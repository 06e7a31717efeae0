"""All passes in order: each is recorded, and a second run changes nothing."""

from __future__ import annotations

from graphnets import network

from xxdeploy.passes.optimize import DEFAULT, optimize

BODY = """xt = Transpose<perm=[0,3,1,2]>(x) c = Conv(xt, w) a = Transpose<perm=[0,2,3,1]>(c) b = Relu(a)
bt = Transpose<perm=[0,3,1,2]>(b) m = Conv(bt, v) z = GlobalAveragePool(m) y = Flatten(z)"""


def test_optimize_records_every_pass_and_is_repeatable() -> None:
    graph = network("(float[n,6,6,3] x) => (float[n,5] y)", BODY, w=(4, 3, 3, 3), v=(5, 4, 1, 1))
    after, records = optimize(graph)
    assert [record.step for record in records] == [step.__name__ for step in DEFAULT]
    assert optimize(graph)[0].digest == after.digest
    again, _ = optimize(after)
    assert [node.op_type for node in again.proto().graph.node] == [node.op_type for node in after.proto().graph.node]
