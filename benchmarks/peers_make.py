"""The files of ``peers.py``: a user of each tool would make these from the same Keras model and images."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Batches = Sequence[NDArray[np.float32]]
"""Images one by one, scaled as the network wants them: (1, h, w, 3) float32 each."""


def has(*modules: str) -> bool:
    """Return whether these modules can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in modules)


def float_onnx(model: Any, target: Path) -> None:
    """Convert with tf2onnx, as its documentation says."""
    import tensorflow as tf
    import tf2onnx

    model.output_names = ["probabilities"]
    spec = (tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image"),)
    tf2onnx.convert.from_keras(model, input_signature=spec, opset=17, output_path=str(target))


def stock_int8(source: Path, batches: Batches, target: Path) -> None:
    """Quantize with onnxruntime: quant_pre_process, then quantize_static, per channel, otherwise its defaults."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = ({"image": batch} for batch in batches)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self.feeds, None)

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(
        str(source), str(prepared), skip_symbolic_shape=True
    )  # else it wants sympy, which is no dependency
    kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(str(prepared), str(target), Reader(), per_channel=True, **kinds)
    prepared.unlink()


def nncf_int8(source: Path, batches: Batches, target: Path) -> None:
    """Quantize with NNCF's OpenVINO backend, mixed preset."""
    import nncf
    import openvino as ov

    model = ov.Core().read_model(source)
    data = nncf.Dataset(list(batches))
    quantized = nncf.quantize(
        model, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches), fast_bias_correction=True
    )
    ov.save_model(quantized, target, compress_to_fp16=False)


def litert(model: Any, batches: Batches | None, target: Path, *, batch: int | None = None) -> None:
    """Convert with TensorFlow Lite's converter: float, or INT8 from input to output if there are images.

    ``batch`` is that of the file, None a free one, which LiteRT.js cannot run.
    """
    import tensorflow as tf

    folder = target.with_suffix(".saved")
    given = tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="image")
    model.export(str(folder), verbose=False, input_signature=[given])
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if batches is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([batch] for batch in batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    target.write_bytes(converter.convert())


def bundle(network: str, weights: str, calibration: Path, samples: int, target: Path) -> None:
    """Export with xxdeploy: INT8 with the recipe that ships, and FP32."""
    from xxdeploy.exporter import ExportOptions, export
    from xxdeploy.models.catalog import find

    plan = ExportOptions.of(
        "int8", weights=weights, calibration=calibration, samples=samples, keep_fp32=True, force=True
    )
    export(find(network), plan, target)


def note(message: str) -> None:
    """Print the progress."""
    print(message, file=sys.stderr, flush=True)
