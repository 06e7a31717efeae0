"""The form of an INT8 file for x86: the integers of the Q/DQ graph, arranged for the fastest kernels."""

from __future__ import annotations

from xxdeploy.lowering.copy_integers import copy_integers, pair_copies
from xxdeploy.lowering.double_pools import double_pools
from xxdeploy.lowering.space_to_depth_stem import space_to_depth_stem, undo_space_to_depth_stem
from xxdeploy.lowering.uint8_channels import take_uint8_channels
from xxdeploy.lowering.uint8_input import dequantize_after_transpose, take_uint8_input
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.runtime.image.grid import ChannelGrid, Grid


def to_x86_file(model: OnnxModel, grid: Grid | None, *, any_order: bool) -> OnnxModel:
    """Return ``model`` in the form for x86; the results are bit-identical.

    ``model`` is U8S8 in Q/DQ pairs. (S8S8, for ARM, stays as it is.) ``grid`` states how a pixel becomes the image's
    value; None keeps the float input. ``any_order`` means that the sums are exact in any order, or that the file is for
    VNNI only: then the first layer may read blocks of pixels.
    """
    model = double_pools(copy_integers(model))
    if grid is None:
        return model
    if isinstance(grid, ChannelGrid):
        return take_uint8_channels(model, grid)
    taken = take_uint8_input(model, grid.step, grid.center)
    return space_to_depth_stem(taken) if any_order and taken is not model else taken


def from_x86_file(model: OnnxModel) -> OnnxModel:
    """Return a ``model`` of :func:`to_x86_file` with each layer in Q/DQ pairs, as ``quantize`` writes them.

    The input stays as it is, and so do doubled pools, which are no layers. Raises ``VerificationError``
    (``wrong-weight``: the first layer's weights cannot come from ``space_to_depth_stem``).
    """
    return pair_copies(dequantize_after_transpose(undo_space_to_depth_stem(model)))
