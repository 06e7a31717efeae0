"""Makes INT8 models after recipes, and remembers the steps that several recipes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets import ImageSet
from xxdeploy.datasets.batch_size import CALIBRATION_BATCH, batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.files import cache_folder
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress, Ranges
from xxdeploy.runtime.image.grid import MIDDLE, ChannelGrid
from xxdeploy.runtime.image.preprocess import Preprocess

with extra("export"):
    from xxdeploy.lowering.center_pixels import center_pixels
    from xxdeploy.lowering.scale_in_integers import scale_in_integers
    from xxdeploy.lowering.shift_input import CENTERED, shift_input
    from xxdeploy.onnxmodel.graph import Graph, layer_name
    from xxdeploy.passes.infer_shapes import infer_shapes
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.passes.push_strides import thin_out_reads
    from xxdeploy.quantize import (
        Batches,
        CalibrationKey,
        Checkpoint,
        Histograms,
        Scheme,
        cached_histograms,
        choose_ranges,
        observe_histograms,
        quantize,
    )
    from xxdeploy.quantize.calibration.given_ranges import given_ranges
    from xxdeploy.quantize.methods.equalize import equalize
    from xxdeploy.quantize.methods.reconstruct import reconstruct
    from xxdeploy.quantize.placement import plan_layout
    from xxdeploy.quantize.recipe import QuantizationRecipe
    from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt

CORRECTION_IMAGES = 192
"""Each shift is a mean over images: with 96 of them MobileNetV2 diverges by 0.0040 nats, with 256 by 0.0037."""
EQUALIZATION_IMAGES = 200


class Workshop:
    """A float model, calibration images, and every INT8 model that can be made of the two.

    ``given`` is a file of ranges to take instead of measuring them. ``tensorrt`` writes the pairs where TensorRT wants
    them, instead of ONNX Runtime's integer kernels.
    """

    def __init__(
        self,
        fp32: OnnxModel,
        inputs: Inputs,
        report: OnProgress,
        *,
        tensorrt: bool = False,
        given: Path | None = None,
    ) -> None:
        assert inputs.calibration is not None  # follow() has seen to it
        self._inputs, self._report = inputs, report
        self.fp32, self.pixels, self.grid = (
            (fp32, None, None) if tensorrt or given else _prepared(fp32, inputs.preprocess)
        )
        # pixels: (step, zero) of the image where its pixels shall be the integers, see ``shift_input``; grid: the same,
        # or what the pixels of each channel are.
        self._digests = self.fp32.digest, fp32.digest
        self._images: ImageSet = inputs.calibration
        self._digest = inputs.data_digest(inputs.calibration)
        self._batch = batch_that_fits(CALIBRATION_BATCH, inputs.preprocess.height, inputs.preprocess.width)
        self._folder = cache_folder("calibration")
        self.given = None if given is None else given_ranges(given, fp32)
        """Ranges that are not to be measured, from a file: they are right for this float model only."""
        self.write = quantize_for_tensorrt if tensorrt else quantize
        """Writes the INT8 model: arguments as ``quantize``."""
        self._equalized: OnnxModel | None = None
        self._histograms: dict[bool, Histograms] = {}
        self._tuned: dict[tuple[object, ...], tuple[OnnxModel, Mapping[str, NDArray[np.int8]]]] = {}

    def float_model(self, recipe: QuantizationRecipe) -> OnnxModel:
        """Return the float model that ``recipe`` starts from."""
        if not recipe.equalization:
            return self.fp32
        if self._equalized is None:
            self._equalized = equalize(self.fp32, self.some(EQUALIZATION_IMAGES), on_progress=self._report)
        return self._equalized

    def ranges(self, recipe: QuantizationRecipe) -> Ranges:
        """Return the ranges that ``recipe`` quantizes over; the images are looked at once for each float model."""
        if self.given is not None:
            return self.given
        if recipe.equalization not in self._histograms:
            self._histograms[recipe.equalization] = self._observed(self.float_model(recipe))
        found = choose_ranges(self._histograms[recipe.equalization], recipe.calibrator)
        return found if self.pixels is None else self._with_pixels(found, *self.pixels)

    def _with_pixels(self, found: Ranges, step: float, center: float) -> Ranges:
        """Lay the image's integers over its pixels, 0 to 255, whatever the calibration images held.

        The ranges are kept under the digest of the graph that was not shifted: they serve that as well.
        """
        (source,) = Graph(self.fp32).inputs
        known = dict(found.ranges)
        whole, spans = center // 1, {source: (-center * step, (255 - center) * step)}
        spans[CENTERED] = -whole * step, (255 - whole) * step
        if isinstance(self.grid, ChannelGrid):
            spans[source] = self.grid.span
        for name, span in spans.items():
            if CENTERED in known or name in known:
                known[name] = span
        shifted, plain = self._digests
        digest = plain if found.model_digest == shifted else found.model_digest
        return replace(found, model_digest=digest, ranges=known)

    def scheme(self, recipe: QuantizationRecipe, narrow: frozenset[str] = frozenset()) -> Scheme:
        """Return the scheme of ``recipe`` with its float layers as nodes of the graph.

        Raises
        ------
        UsageError
            ``recipe-layers``: the network has no such layer.
        """
        floats = _nodes(self.fp32, recipe.float_layers)
        return replace(recipe.asked(), float_layers=floats, narrow_layers=narrow)

    def build(
        self, recipe: QuantizationRecipe, *, narrow: frozenset[str] = frozenset(), signed: bool = False
    ) -> OnnxModel:
        """Return the INT8 model: for ``narrow`` layers without 16-bit overflow, or with ``signed`` activations.

        Signed activations round as unsigned ones do, so both share their biases and their rounding.
        """
        model, ranges, asked = self.float_model(recipe), self.ranges(recipe), self.scheme(recipe, narrow)
        target = replace(asked, signed=True) if signed else asked
        if recipe.bias_correction == "none":
            return self.write(model, ranges, target)
        key = (recipe, narrow)
        if key not in self._tuned:
            adaptive = recipe.rounding == "adaptive"
            found = reconstruct(
                model,
                ranges,
                asked,
                self.some(CORRECTION_IMAGES),
                rounding=adaptive,
                quantizer=self.write,
                on_progress=self._report,
            )
            self._tuned[key] = found.model.sharing(model), found.rounding
            del found
        tuned, rounding = self._tuned[key]
        return self.write(tuned, ranges, target, rounding=rounding)

    def some(self, count: int) -> Batches:
        """Return ``count`` of the calibration images, or all if there are fewer."""
        few = self._images.sample(min(count, len(self._images)))
        return lambda: few.batches(self._inputs.preprocess, self._batch)

    def _observed(self, model: OnnxModel) -> Histograms:
        total = len(self._images)

        def compute() -> Histograms:
            return observe_histograms(
                model,
                lambda: self._images.batches(self._inputs.preprocess, self._batch),
                data_digest=self._digest,
                total=total,
                checkpoint=None if self._folder is None else Checkpoint(self._folder),
                on_progress=self._report,
            )

        key = CalibrationKey(model.digest, self._digest, total)
        found = compute() if self._folder is None else cached_histograms(self._folder, key, compute)
        # What is measured depends on the layout's rules, too: an older xxdeploy may have left a tensor out.
        if set(plan_layout(Graph(model), Scheme()).measured) - set(found.tensors):
            found = compute()
        return found


def _prepared(
    fp32: OnnxModel, preprocess: Preprocess
) -> tuple[OnnxModel, tuple[float, float] | None, tuple[float, float] | ChannelGrid | None]:
    """Return the float model with zero on a pixel, where that can be, and no normalization left to float; and grids."""
    pixels = preprocess.grid
    channels = preprocess.channel_grid

    def shift(graph: Graph) -> int:
        return 0 if pixels is None or pixels[1] % 1 == 0 else shift_input(graph, pixels[0] * (pixels[1] % 1))

    def center(graph: Graph) -> int:
        return 0 if channels is None else center_pixels(graph, channels)

    made, records = optimize(fp32, (shift, center, scale_in_integers, thin_out_reads, infer_shapes))
    # Half a gigabyte of VGG's weights is the same in both.
    model = made.sharing(fp32) if any(record.facts["changed"] for record in records[:-1]) else fp32
    if records[1].facts["changed"]:
        return model, (1.0, float(MIDDLE)), channels
    return model, pixels, pixels


def has_layer(model: OnnxModel, name: str) -> bool:
    """Tell whether a recipe may name ``name``: a node, its output, or the Keras layer that nodes belong to."""
    return any(
        name in (layer_name(node), node.output[0]) or layer_name(node).startswith(f"{name}/")
        for node in Graph(model).nodes
    )


def _nodes(model: OnnxModel, names: tuple[str, ...]) -> frozenset[str]:
    """Return the nodes that ``names`` stand for: their own name, their output, or the Keras layer they belong to."""
    if not names:
        return frozenset()
    nodes = [(layer_name(node), str(node.output[0])) for node in Graph(model).nodes]
    found: set[str] = set()
    for name in names:
        own = {node for node, output in nodes if name in (node, output) or node.startswith(f"{name}/")}
        if not own:
            raise UsageError(
                f"the recipe leaves layer {name!r} in float, but the network has none of that name",
                hint="`xxdeploy inspect --sensitivity` lists the layers",
                code="recipe-layers",
            )
        found |= own
    return frozenset(found)
