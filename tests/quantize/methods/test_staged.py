from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from quantnets import batches, images, residual

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.run import Observer
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.methods.staged import StagedRun

LAYERS = ["stem", "wide", "deep", "thin", "grouped", "logits"]


def test_every_layer_is_seen_as_in_one_run_and_the_front_stays_small() -> None:
    model, batch = residual(), images(11)
    integer = Graph(quantize(model, calibrate(model, batches(batch), data_digest="d"), scheme("static-w8c-a8")))
    whole = Observer(integer, LAYERS).run(batch)
    staged = StagedRun(integer, LAYERS, batches(batch)())

    def keep(_: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values

    fronts = []
    for stage, name in enumerate(LAYERS):
        seen = np.concatenate(staged.advance(stage, integer.constants, keep, [name]))
        np.testing.assert_allclose(seen, whole[name], atol=1e-4, err_msg=name)
        fronts.append(staged.front)
    # What a layer still to come reads, and nothing else: integers, one byte a value.
    assert fronts == [
        {"nchw_quantized"},
        {"down_quantized"},
        {"down_quantized", "wide6_quantized"},
        {"down_quantized", "deep6_quantized"},
        {"sum_quantized"},
        {"flat_quantized"},
    ]


def test_what_a_layer_reads_is_seen_beside_its_output() -> None:
    model, batch = residual(), images(11)
    integer = Graph(quantize(model, calibrate(model, batches(batch), data_digest="d"), scheme("static-w8c-a8")))
    reads = [integer.producers()[name].input[0] for name in LAYERS]
    whole = Observer(integer, [*LAYERS, *reads]).run(batch)
    staged, alone = (StagedRun(integer, LAYERS, batches(batch)()) for _ in range(2))

    def both(_: int, output: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        return output, values

    for stage, (name, read) in enumerate(zip(LAYERS, reads, strict=True)):
        seen = staged.advance(stage, integer.constants, both, [name, read])
        np.testing.assert_allclose(np.concatenate([output for output, _ in seen]), whole[name], atol=1e-4)
        np.testing.assert_array_equal(np.concatenate([values for _, values in seen]), whole[read], err_msg=read)
        alone.advance(stage, integer.constants, lambda chunk, read: (chunk, len(read)), [read])
        assert staged.front == alone.front  # it is looked at, not kept
