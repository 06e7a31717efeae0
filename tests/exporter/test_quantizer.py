"""Models after recipes, also of broken networks and poor images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hardnets import PREPROCESS, Weights, draw, inputs, network, outlier_channel, weights
from PIL import Image

from xxdeploy.datasets import ImageSet, open_images
from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.exporter import quantizer as quantizer_module
from xxdeploy.exporter.ladder import Bench, Goal, climb
from xxdeploy.exporter.quantizer import Quantizer
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.methods.method import Draft, MethodContext
from xxdeploy.quantize.methods.reconstruct import reconstruct
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.results import Progress
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify import Comparison, compare_with, record_reference

TUNED = QuantizationRecipe(equalization=True, bias_correction="empirical", rounding="adaptive")


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return draw(tmp_path_factory.mktemp("colours"), 24, 0)


def convolutions_in_float(model: OnnxModel) -> set[str]:
    """Return the layers that read float weights."""
    proto = model.proto()
    producers = {name: node.op_type for node in proto.graph.node for name in node.output}
    return {
        node.name
        for node in proto.graph.node
        if node.op_type in ("Conv", "Gemm") and producers.get(node.input[1]) != "DequantizeLinear"
    }


def test_float_layers_are_named_by_node_or_by_keras_layer(colors: ImageSet) -> None:
    quantizer = Quantizer(network(weights()), inputs(colors), lambda _: None)
    for names, expected in (
        ((), set()),
        (("stem",), {"stem/Conv"}),  # the part before the slash is the Keras layer
        (("stem/Conv", "raw"), {"stem/Conv", "raw/Gemm"}),
    ):
        assert convolutions_in_float(quantizer.build(QuantizationRecipe(float_layers=names))) == expected
    for wrong in ("ste", "Conv", "stem/", ""):
        with pytest.raises(UsageError) as caught:
            quantizer.build(QuantizationRecipe(float_layers=("wide", wrong)))
        assert caught.value.code == "recipe-layers"
        assert repr(wrong) in caught.value.message


ZERO = np.zeros(1)


@pytest.mark.parametrize("recipe", [QuantizationRecipe(), TUNED], ids=["plain", "tuned"])
def test_the_same_recipe_gives_the_same_bytes(colors: ImageSet, recipe: QuantizationRecipe) -> None:
    model = network(outlier_channel(30))
    one = Quantizer(model, inputs(colors), lambda _: None)
    first = one.build(recipe)
    assert first.to_bytes() == one.build(recipe).to_bytes()
    seen: list[Progress] = []
    assert first.to_bytes() == Quantizer(model, inputs(colors), seen.append).build(recipe).to_bytes()
    assert "calibrate" not in {event.step for event in seen}  # it was kept in the cache


def test_images_are_looked_at_once_for_all_calibrators(colors: ImageSet) -> None:
    seen: list[Progress] = []
    quantizer = Quantizer(network(weights()), inputs(colors), seen.append)
    models = [
        quantizer.build(QuantizationRecipe(calibrator=name)).to_bytes() for name in ("minmax", "mse", "percentile-99")
    ]
    assert len(set(models)) == 3
    assert Counter(event.step for event in seen)["calibrate"] == len(colors)
    entropy = QuantizationRecipe(calibrator="entropy")
    corrected = replace(entropy, bias_correction="empirical")
    assert quantizer.ranges(corrected) is quantizer.ranges(entropy)  # the choice took seconds: it is made once


def test_a_network_with_long_passes_is_corrected_on_half_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, images = QuantizationRecipe(bias_correction="empirical"), draw(tmp_path, 120, 0)
    small = Quantizer(network(weights()), inputs(images), lambda _: None)
    monkeypatch.setattr(quantizer_module, "LARGE_MODEL", 100)
    large = Quantizer(network(weights()), inputs(images), lambda _: None)
    expected = [quantizer.seconds("bias correction", recipe, 1.0) for quantizer in (small, large)]
    assert expected[1] / expected[0] == 96 / 120


def test_signed_activations_give_the_same_answers(colors: ImageSet) -> None:
    quantizer = Quantizer(network(weights()), inputs(colors), lambda _: None)
    batch = next(colors.batches(PREPROCESS, 8))
    for recipe in (QuantizationRecipe(), TUNED):
        unsigned, signed = quantizer.build(recipe), quantizer.build(recipe, signed=True)
        outputs = [OrtSession(model.to_bytes(), optimize=False).run(batch) for model in (unsigned, signed)]
        np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "recipe", [QuantizationRecipe(), QuantizationRecipe(equalization=True)], ids=["plain", "equalized"]
)
def test_weights_that_are_no_numbers(colors: ImageSet, value: float, recipe: QuantizationRecipe) -> None:
    broken = weights()
    # `network` runs it once: the broken weight is put in behind that.
    proto, arrays = network(broken).split()
    values = np.array(arrays["wide_w"])
    values[2, 3] = value
    quantizer = Quantizer(OnnxModel.join(proto, {**arrays, "wide_w": values}), inputs(colors), lambda _: None)
    with pytest.raises(ConversionError) as caught:
        quantizer.build(recipe)
    assert caught.value.code == "non-finite-weights"
    assert "wide_w" in caught.value.message


def test_activations_that_overflow(colors: ImageSet) -> None:
    proto, arrays = network(weights()).split()
    huge = np.array(arrays["wide_w"]) * np.float32(1e38)
    quantizer = Quantizer(OnnxModel.join(proto, {**arrays, "wide_w": huge}), inputs(colors), lambda _: None)
    with pytest.raises(ConversionError) as caught:
        quantizer.build(QuantizationRecipe())
    assert caught.value.code == "non-finite-range"


def poor(folder: Path, count: int) -> ImageSet:
    """Images without content: all of one gray."""
    folder.mkdir()
    for index in range(count):
        Image.new("RGB", (16, 16), (127, 127, 127)).save(folder / f"{index}.png")
    return open_images(folder)


def dead_channels() -> Weights:
    """A quarter of the first layer's channels never fire, one output of the second has no weights at all."""
    made = weights()
    made["stem_w"][::4] = 0
    made["stem_b"][::4] = -1
    made["wide_w"][5] = 0
    made["wide_b"][5] = 0
    return made


@pytest.mark.parametrize(
    "recipe",
    [QuantizationRecipe(), QuantizationRecipe(calibrator="entropy"), QuantizationRecipe(calibrator="mse"), TUNED],
    ids=str,
)
@pytest.mark.parametrize("kind", ["constant", "one", "dead"])
def test_poor_images_and_dead_channels_still_give_a_network_that_runs(
    tmp_path: Path, colors: ImageSet, recipe: QuantizationRecipe, kind: str
) -> None:
    images = {"constant": lambda: poor(tmp_path / "grey", 5), "one": lambda: draw(tmp_path / "one", 1, 3)}
    calibration = images.get(kind, lambda: colors)()
    model = network(dead_channels() if kind == "dead" else weights())
    int8 = Quantizer(model, inputs(calibration), lambda _: None).build(recipe)
    kept = record_reference(OrtSession(model.to_bytes()), colors.batches(PREPROCESS, 8))
    comparison = compare_with(kept, OrtSession(int8.to_bytes(), exact=True), colors.batches(PREPROCESS, 8))
    assert comparison.agreement is not None  # and no NaN came out, which would have raised
    if kind == "dead":
        assert comparison.agreement >= 0.95


def test_the_ladder_on_one_image_ends(tmp_path: Path, colors: ImageSet) -> None:
    """Ranges of one image say little of others: all rungs are tried, and what came of it is told."""
    model = network(outlier_channel(300))
    one = draw(tmp_path / "one", 1, 3)
    kept = record_reference(OrtSession(model.to_bytes()), colors.batches(PREPROCESS, 8))

    def judge(int8: OnnxModel) -> Comparison:
        return compare_with(kept, OrtSession(int8.to_bytes(), exact=True), colors.batches(PREPROCESS, 8))

    quantizer = Quantizer(model, inputs(one), lambda _: None)
    bench = Bench(judge, judge, lambda _: (1.0, 1.0))
    end = climb(quantizer, bench, Goal(), start=QuantizationRecipe(), name="plain", effort="thorough")
    assert end.rungs[0].comparison.agreement is not None
    assert end.best.comparison.agreement is not None
    assert end.best.comparison.agreement >= end.rungs[0].comparison.agreement


def test_what_is_remembered_of_a_tuned_network_is_what_was_tuned(colors: ImageSet) -> None:
    """Half a gigabyte of weights is not kept for each recipe; what comes out is the same to the byte."""
    model = network(weights())
    quantizer = Quantizer(model, inputs(colors), lambda _: None)
    for recipe in (QuantizationRecipe(bias_correction="empirical"), TUNED):
        floats, ranges, asked = quantizer.float_model(recipe), quantizer.ranges(recipe), quantizer.scheme(recipe)
        images = quantizer.some(192)
        expected = reconstruct(Draft(floats, ranges), MethodContext(images, recipe, asked)).quantized(asked)
        assert quantizer.build(recipe).to_bytes() == quantizer.build(recipe).to_bytes() == expected.to_bytes()
        base, kept = floats.split()[1], quantizer.draft(recipe)
        own = [
            array for name, array in kept.model.split()[1].items() if not np.shares_memory(array, base.get(name, ZERO))
        ]
        assert sum(array.nbytes for array in own) < model.size / 10
