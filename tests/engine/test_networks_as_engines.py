"""Networks of the catalog as engines for two cards, with random weights. `pytest -s` shows the shares.

Building an engine takes up to 20 seconds, so only the two small networks are built in each precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from enginenets import rtx
from numpy.typing import NDArray

from xxdeploy.engine import EngineOptions
from xxdeploy.engine.proof import LEAST
from xxdeploy.errors import ConversionError
from xxdeploy.exporter.trt_engine import make_engine
from xxdeploy.lowering.cast_fp16 import cast_fp16
from xxdeploy.models.catalog import find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.tensorrt.placement import quantize_for_tensorrt

pytestmark = [rtx, pytest.mark.slow]

# Millions of multiplications for one image, of convolutions and dense layers.
NETWORKS = {
    "mobilenet": 569,
    "mobilenetv2": 301,
    "nasnetmobile": 686,  # 564 in Keras: depthwise layers get whole blocks of 16 channels
    "resnet50": 3482,  # 3857 in Keras: the strides of a stage's first layers go up to the last ones of that before
    "densenet121": 2834,
    "inceptionv3": 5713,
}
IN_EACH_PRECISION = ("mobilenet", "mobilenetv2")


@pytest.mark.parametrize("name", NETWORKS)
def test_engines_are_built_and_proved(name: str) -> None:
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras

    keras_model = build_model(find(name), weights="none")
    model, _ = optimize(onnx_from_keras(keras_model, outputs=("probabilities",)))
    side = keras_model.input_shape[1]

    def noise() -> Iterator[NDArray[np.float32]]:
        yield np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)

    ranges = calibrate(model, noise, data_digest="noise")
    models = {"int8": quantize_for_tensorrt(model, ranges, scheme("static-w8c-a8s"))}
    if name in IN_EACH_PRECISION:
        # Without the ranges: random weights let the signal die down to values below float16, and the cast says so.
        models |= {"fp32": model, "fp16": cast_fp16(model).model}
    for precision, lowered in models.items():
        engine = make_engine(lowered, EngineOptions(precision=precision, gpus=("sm86", "sm89")))
        facts = engine.facts
        print(f"\n{name} {precision}: {facts['shares']}, {engine.size / 1e6:.1f} MB", end="")  # noqa: T201
        shares = facts["shares"]
        assert isinstance(shares, dict)
        assert shares[precision] >= LEAST
        assert facts["macs"] == pytest.approx(NETWORKS[name] * 1e6, rel=0.002)
    with pytest.raises(ConversionError, match="zero point"):
        make_engine(quantize(model, ranges, scheme("static-w8c-a8")), EngineOptions(precision="int8", gpus=("sm86",)))


def test_a_float_graph_is_no_int8_engine() -> None:
    from enginenets import small

    from xxdeploy.errors import EngineError

    with pytest.raises(EngineError, match=r"only 0\.0 % of the work is int8"):
        make_engine(OnnxModel(small().to_bytes()), EngineOptions(precision="int8", gpus=("sm86",)))
