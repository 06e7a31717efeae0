"""Run named passes over a model and record what each one changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import MappingProxyType

from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.align_channels import align_channels
from xxdeploy.passes.finish import infer_shapes, name_tensors
from xxdeploy.passes.fold_affine import fold_affine, split_batch_norm
from xxdeploy.passes.fold_constants import fold_constants, fold_reshape
from xxdeploy.passes.fold_factorized import fold_factorized
from xxdeploy.passes.fold_pad import fold_pad
from xxdeploy.passes.fold_scale import fold_scale
from xxdeploy.passes.fuse import (
    fuse_batch_norm,
    fuse_clip,
    fuse_gemm,
    fuse_global_pool,
    fuse_hard_sigmoid,
    fuse_pooled_gemm,
)
from xxdeploy.passes.hoist_relu import hoist_relu
from xxdeploy.passes.lrn_as_sums import lrn_as_sums
from xxdeploy.passes.merge_duplicates import merge_duplicates, share_weights
from xxdeploy.passes.merge_sums import merge_sums
from xxdeploy.passes.push_strides import push_strides
from xxdeploy.passes.push_transposes import push_transposes
from xxdeploy.passes.remove_dead import remove_dead, remove_identity
from xxdeploy.results import StepRecord

Pass = Callable[[Graph], int]

DEFAULT: tuple[Pass, ...] = (
    # 1. Remove: shape computations and nodes without an effect hide the patterns that later groups look for, and the
    #    layout pass would keep NHWC for a dead Shape.
    fold_constants,
    remove_identity,
    fold_reshape,
    remove_dead,
    # 2. Change the layout to NCHW: from here on a channel is axis 1.
    push_transposes,
    fold_constants,  # the constants that were moved to NCHW
    # 3. Fold into layers. A batch norm is split into Mul and Add first, so that each half folds where it can; the
    #    halves that found no layer become one batch norm again at the end.
    fold_factorized,  # makes a convolution into which the next batch norm folds
    fuse_hard_sigmoid,  # before its shift becomes part of a bias
    split_batch_norm,
    fold_affine,
    fuse_gemm,
    fuse_clip,
    fold_pad,
    fold_scale,
    fuse_global_pool,
    fuse_pooled_gemm,  # needs the GlobalAveragePool of the pass before it
    fuse_batch_norm,
    remove_identity,
    # 4. Rewrite for speed: these count a tensor's readers or match whole layers, so they need the folded graph.
    merge_duplicates,
    hoist_relu,
    merge_duplicates,  # a moved Relu may equal another
    merge_sums,
    push_strides,
    align_channels,
    lrn_as_sums,
    share_weights,  # which the passes above have copied
    # 5. Finish: names and shapes of the nodes that are left, and ONNX's checker.
    remove_dead,
    name_tensors,
    infer_shapes,
)
"""All passes in order, in five groups; the comments say what each group relies on."""


def optimize(model: OnnxModel, passes: Sequence[Pass] = DEFAULT) -> tuple[OnnxModel, tuple[StepRecord, ...]]:
    """Run ``passes`` in order; return the new model and one record a pass.

    The outputs stay the same up to float rounding. If a pass fails, it raises.
    """
    graph = Graph(model)
    records = []
    for step in passes:
        start = time.perf_counter()
        changed = step(graph)
        graph.drop_indices()  # passes edit nodes in place
        facts = MappingProxyType({"changed": changed, "nodes": len(graph.nodes)})
        records.append(StepRecord(step.__name__, facts, time.perf_counter() - start))
    return graph.to_model(), tuple(records)
