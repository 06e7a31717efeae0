"""Builds INT8 models from recipes, and keeps the results of steps that several recipes share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xxdeploy.datasets import ImageSet
from xxdeploy.datasets.images import CALIBRATION_BATCH, batch_that_fits
from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.files import cache_folder
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import OnProgress, Ranges
from xxdeploy.runtime.image.grid import MIDDLE, ChannelGrid, Grid, PixelGrid
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import InputForm, area_of

with extra("export"):
    from xxdeploy.lowering.center_pixels import CENTERED, center_pixels, shift_input
    from xxdeploy.onnxmodel.graph import Graph, layer_name
    from xxdeploy.passes.finish import infer_shapes
    from xxdeploy.passes.fold_affine import scale_in_integers
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
    from xxdeploy.quantize.measure.rank import IMAGES as RANKING_IMAGES
    from xxdeploy.quantize.measure.rank import rank_layers
    from xxdeploy.quantize.methods.float_means import FloatMeans
    from xxdeploy.quantize.methods.method import Draft, MethodContext, Stage
    from xxdeploy.quantize.methods.reconstruct import products_per_second, rounding_products
    from xxdeploy.quantize.methods.registry import METHODS, Method, methods_of, settings_of, without_methods
    from xxdeploy.quantize.placement import plan_layout
    from xxdeploy.quantize.recipe import QuantizationRecipe
    from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt

LARGE_MODEL = 40_000_000
"""Bytes of a float model: ResNet50 has 102 million, MobileNet 17."""
_OBSERVED = 1.5
"""The time to observe an image in the float model, as a multiple of running the INT8 model on it."""


class Quantizer:
    """A float model and calibration images, from which :meth:`build` makes an INT8 model for each recipe.

    ``inputs.calibration`` is required; ``tensorrt`` writes Q/DQ pairs where TensorRT expects them, instead of where
    ONNX Runtime's integer kernels do; ``given`` is a file of ranges to use instead of measured ones.

    Attributes
    ----------
    prepared : OnnxModel
        ``fp32``, rewritten so that the integers of its quantized input can be the pixel values 0..255; ``fp32`` itself
        for TensorRT and given ranges.
    image_grid : PixelGrid | None
        The scaling of the input of ``prepared`` at which its integers are pixel values; None if they are not.
    grid : PixelGrid | ChannelGrid | None
        The scaling of pictures at which a shipped file can read their bytes; None if it cannot, as with several inputs.
    given : Ranges | None
        The ranges of the file, which are right for ``fp32`` only.
    write
        Writes an INT8 model; arguments as :func:`xxdeploy.quantize.quantize`.
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
        assert inputs.calibration is not None  # gather() has seen to it
        self._inputs, self._report = inputs, report
        self.prepared, self.image_grid, self.grid = (
            (fp32, None, None) if tensorrt or given else prepared_for_int8(fp32, inputs.preprocess)
        )
        self._digests = self.prepared.digest, fp32.digest
        self._is_large = self.prepared.size > LARGE_MODEL
        self._images: ImageSet = inputs.calibration
        self._digest = inputs.data_digest(inputs.calibration)
        self._batch = batch_that_fits(CALIBRATION_BATCH, area_of(inputs.preprocess))
        self._folder = cache_folder("calibration")
        self.given = None if given is None else given_ranges(given, fp32)
        self.write = quantize_for_tensorrt if tensorrt else quantize
        self._float_models: dict[QuantizationRecipe, OnnxModel] = {}
        self._histograms: dict[QuantizationRecipe, Histograms] = {}
        self._ranges: dict[tuple[QuantizationRecipe, str], Ranges] = {}
        self._float_means: dict[tuple[QuantizationRecipe, int], FloatMeans] = {}
        self._drafts: dict[tuple[QuantizationRecipe, frozenset[str]], Draft] = {}

    def float_model(self, recipe: QuantizationRecipe) -> OnnxModel:
        """Return the float model that ``recipe`` quantizes: ``prepared``, after the recipe's methods before ranges."""
        key = settings_of(recipe, Stage.BEFORE_RANGES)
        if key not in self._float_models:
            draft = self._improved(Draft(self.prepared), Stage.BEFORE_RANGES, key, Scheme())
            self._float_models[key] = draft.model
        return self._float_models[key]

    def ranges(self, recipe: QuantizationRecipe) -> Ranges:
        """Return the ranges for ``recipe``; the images are measured once for each float model.

        Ranges are chosen once for each calibrator: entropy takes 3 s for ResNet50.
        """
        if self.given is not None:
            return self.given
        key = settings_of(recipe, Stage.BEFORE_RANGES)
        if (key, recipe.calibrator) not in self._ranges:
            if key not in self._histograms:
                self._histograms[key] = self._observed(self.float_model(recipe))
            ranges = choose_ranges(self._histograms[key], recipe.calibrator)
            if self.image_grid is not None:
                ranges = self._with_pixels(ranges, self.image_grid)
            self._ranges[key, recipe.calibrator] = ranges
        return self._ranges[key, recipe.calibrator]

    def _with_pixels(self, ranges: Ranges, grid: PixelGrid) -> Ranges:
        """Return ``ranges`` with the range of the image set to the pixel values 0..255, one integer for each.

        They keep the digest of the model before it was prepared, since they fit both models.
        """
        (source,) = Graph(self.prepared).inputs
        by_tensor = dict(ranges.ranges)
        step, center, whole = grid.step, grid.center, grid.center // 1
        spans = {source: (-center * step, (255 - center) * step), CENTERED: (-whole * step, (255 - whole) * step)}
        if isinstance(self.grid, ChannelGrid):
            spans[source] = self.grid.span
        for name, span in spans.items():
            if CENTERED in by_tensor or name in by_tensor:
                by_tensor[name] = span
        prepared, converted = self._digests
        digest = converted if ranges.model_digest == prepared else ranges.model_digest
        return replace(ranges, model_digest=digest, ranges=by_tensor)

    def scheme(self, recipe: QuantizationRecipe, narrow: frozenset[str] = frozenset()) -> Scheme:
        """Return the scheme of ``recipe`` with its float layers as nodes of the graph.

        ``UsageError`` ``recipe-layers``: the network has no such layer.
        """
        return replace(recipe.asked(), float_layers=_nodes(self.prepared, recipe.float_layers), narrow_layers=narrow)

    def build(
        self, recipe: QuantizationRecipe, *, narrow: frozenset[str] = frozenset(), signed: bool = False
    ) -> OnnxModel:
        """Return the INT8 model: for ``narrow`` layers without 16-bit overflow, or with ``signed`` activations.

        Signed and unsigned activations round alike, so both models share their biases and their rounding.
        """
        asked = self.scheme(recipe, narrow)
        return self.draft(recipe, narrow).quantized(replace(asked, signed=True) if signed else asked, self.write)

    def draft(self, recipe: QuantizationRecipe, narrow: frozenset[str] = frozenset()) -> Draft:
        """Return the float model after all methods of ``recipe``, with its ranges and rounding; it is kept."""
        key = recipe, narrow
        if key not in self._drafts:
            model = self.float_model(recipe)
            plain = Draft(model, self.ranges(recipe))
            draft = self._improved(plain, Stage.AFTER_RANGES, recipe, self.scheme(recipe, narrow))
            self._drafts[key] = replace(draft, model=draft.model.sharing(model)) if draft is not plain else plain
        return self._drafts[key]

    def _improved(self, draft: Draft, stage: Stage, recipe: QuantizationRecipe, scheme: Scheme) -> Draft:
        """Return ``draft`` after the methods of ``stage`` that ``recipe`` asks for."""
        for method in methods_of(recipe, stage):
            count = self._images_of(method)
            images, means = self.some(count), None
            if stage is Stage.AFTER_RANGES:
                key = settings_of(recipe, Stage.BEFORE_RANGES), count
                means = self._float_means.setdefault(key, FloatMeans(self.float_model(recipe), images))
            context = MethodContext(images, recipe, scheme, self.write, self._report, means)
            draft = method.apply(draft, context)
        return draft

    def _images_of(self, method: Method) -> int:
        """Return the number of images that ``method`` sees: half as many for a network whose passes are long."""
        return method.images // 2 if self._is_large else method.images

    def seconds(self, rung: str, recipe: QuantizationRecipe, per_image: float) -> float:
        """Return the expected seconds to build a rung, where INT8 takes ``per_image`` seconds for an image."""
        images, seconds = 0.0, 0.0
        for method in METHODS:
            if rung in method.rungs:
                images += method.passes[rung] * min(self._images_of(method), len(self._images))
                if method.stage is Stage.BEFORE_RANGES:  # the changed model is calibrated again
                    images += _OBSERVED * len(self._images)
        if recipe.rounding == "adaptive":
            products = rounding_products(self.prepared, self.scheme(recipe))
            seconds = products / products_per_second()
        return images * per_image + seconds

    def worst_layers(self, recipe: QuantizationRecipe) -> frozenset[str]:
        """Return the layers that recover the most accuracy per cost when kept in float; empty if none do.

        They are ranked without the methods after ranges, which tune for one set of integer layers only.
        """
        plain = without_methods(recipe, Stage.AFTER_RANGES)
        draft, scheme = self.draft(plain), self.scheme(plain)
        gains = rank_layers(
            draft.model,
            draft.calibrated,
            scheme,
            self.some(RANKING_IMAGES),
            build=lambda asked: draft.quantized(asked, self.write),
            on_progress=self._report,
        )
        return frozenset(gains[0].layers) if gains else frozenset()

    def some(self, count: int) -> Batches:
        """Return ``count`` of the calibration images, or all if there are fewer."""
        few = self._images.sample(min(count, len(self._images)))
        return lambda: self._inputs.batches(few, self._batch)

    def _observed(self, model: OnnxModel) -> Histograms:
        total = len(self._images)

        def compute() -> Histograms:
            return observe_histograms(
                model,
                lambda: self._inputs.batches(self._images, self._batch),
                data_digest=self._digest,
                total=total,
                checkpoint=None if self._folder is None else Checkpoint(self._folder),
                on_progress=self._report,
            )

        key = CalibrationKey(model.digest, self._digest, total)
        histograms = compute() if self._folder is None else cached_histograms(self._folder, key, compute)
        # The measured tensors depend on the layout's rules: a cache of an older xxdeploy may lack one.
        if set(plan_layout(Graph(model), Scheme()).measured) - set(histograms.tensors):
            histograms = compute()
        return histograms


def prepared_for_int8(fp32: OnnxModel, preprocess: InputForm) -> tuple[OnnxModel, PixelGrid | None, Grid | None]:
    """Return ``fp32`` ready for INT8, and the scaling of the image that it quantizes and of the picture.

    Where possible, the input is shifted so that zero is a pixel value, and batch normalizations become convolutions
    over integers. Inputs of a model that reads several, or none that is a picture, stay float.
    """
    pixels = channels = None
    if isinstance(preprocess, Preprocess):
        pixels = None if preprocess.grid is None else PixelGrid(*preprocess.grid)
        channels = preprocess.channel_grid

    def shift(graph: Graph) -> int:
        between = 0.0 if pixels is None else pixels.step * (pixels.center % 1)
        return shift_input(graph, between) if between else 0

    def center(graph: Graph) -> int:
        return 0 if channels is None else center_pixels(graph, channels)

    made, records = optimize(fp32, (shift, center, scale_in_integers, thin_out_reads, infer_shapes))
    # Half a gigabyte of VGG's weights is the same in both.
    model = made.sharing(fp32) if any(record.facts["changed"] for record in records[:-1]) else fp32
    if records[1].facts["changed"]:
        return model, PixelGrid(1.0, float(MIDDLE)), channels
    return model, pixels, pixels


def nodes_of(model: OnnxModel, names: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Return the nodes that each of ``names`` selects by their own name, their output, or their Keras layer."""
    nodes = [(layer_name(node), str(node.output[0])) for node in Graph(model).nodes] if names else []
    return {
        name: frozenset(node for node, output in nodes if name in (node, output) or node.startswith(f"{name}/"))
        for name in names
    }


def _nodes(model: OnnxModel, names: tuple[str, ...]) -> frozenset[str]:
    """Return the nodes that ``names`` select together."""
    selected = nodes_of(model, names)
    for name, nodes in selected.items():
        if not nodes:
            raise UsageError(
                f"the recipe keeps layer {name!r} in float, but the network has no layer of that name",
                hint="`xxdeploy inspect --sensitivity` lists the layers",
                code="recipe-layers",
            )
    return frozenset().union(*selected.values())
