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
from xxdeploy.passes.fuse import fuse_batch_norm, fuse_clip, fuse_gemm, fuse_global_pool, fuse_pooled_gemm
from xxdeploy.passes.hoist_relu import hoist_relu
from xxdeploy.passes.lrn_as_sums import lrn_as_sums
from xxdeploy.passes.merge_duplicates import merge_duplicates
from xxdeploy.passes.merge_sums import merge_sums
from xxdeploy.passes.push_strides import push_strides
from xxdeploy.passes.push_transposes import push_transposes
from xxdeploy.passes.remove_dead import remove_dead, remove_identity
from xxdeploy.results import StepRecord

Pass = Callable[[Graph], int]

DEFAULT: tuple[Pass, ...] = (
    fold_constants,
    remove_identity,
    fold_reshape,
    remove_dead,  # a dead Shape would insist on NHWC
    push_transposes,
    fold_constants,  # on the constants that were moved to NCHW
    fold_factorized,
    split_batch_norm,
    fold_affine,
    fuse_gemm,
    fuse_clip,
    fold_pad,
    fold_scale,
    fuse_global_pool,
    fuse_pooled_gemm,
    fuse_batch_norm,  # those without a layer to fold into
    remove_identity,
    merge_duplicates,
    hoist_relu,
    merge_duplicates,  # a moved Relu may equal another
    merge_sums,
    push_strides,
    align_channels,
    lrn_as_sums,
    remove_dead,
    name_tensors,
    infer_shapes,
)
"""The order matters: layout before folding, since a channel is axis 1 only then."""


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
