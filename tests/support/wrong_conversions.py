"""Mistakes of a conversion, made on purpose in an ONNX graph or in the Keras model that is converted.

``NETWORKS`` maps a name to a Keras model and the number of classes (None: features); some are as inexact in float32 as
those that an absolute limit refused. ``mutants(model)`` yields a name and the wrong ONNX model for each mistake that
the network allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper
from random_models import give_weights

from xxdeploy.bundle.pack import golden_images
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.keras_to_onnx import onnx_from_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.errors import VerificationError
from xxdeploy.exporter.stages import Remembered, prove_stage
from xxdeploy.onnxmodel.graph import Graph, attributes
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.passes.optimize import optimize
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify import EXACT_FEATURES, EXACT_PROBABILITIES, Rounding, compare, rounding_of

Edit = Callable[[Graph, NodeProto], bool]
"""Makes a mistake at a node; False where the node does not allow it."""


def _weighted(model: Any, seed: int) -> Any:
    give_weights(model, np.random.default_rng(seed))
    return model


def small_net() -> Any:
    """Convolutions with strides and batch normalization, a resize, a crop, leaky and bounded activations."""
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.1)(layers.BatchNormalization()(x))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(layers.Cropping2D(((1, 2), (2, 1)))(x))
    x = layers.Conv2D(8, (3, 1), padding="same", activation="elu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _weighted(keras.Model(image, layers.Dense(6, activation="softmax")(x)), 11)


def linear_classifier() -> Any:
    """Three layers without activations, whose logits are some hundred."""
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Flatten()(image)
    x = layers.Dense(64)(layers.Dense(128)(x))
    model = _weighted(keras.Model(image, layers.Dense(5, activation="softmax")(x)), 19)
    for layer in model.layers[2:]:
        layer.kernel.assign(layer.kernel * 6.0)
    return model


def denoiser() -> Any:
    """An autoencoder whose output is the small difference of large values."""
    keras = load_keras()
    layers = keras.layers
    image = keras.Input((24, 24, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.BatchNormalization()(x))
    x = layers.UpSampling2D(2)(x)
    x = layers.Conv2D(16, 3, padding="same", activation=layers.LeakyReLU(negative_slope=0.2))(x)
    x = layers.Conv2DTranspose(8, 3, padding="same")(x)
    model = _weighted(keras.Model(image, layers.Conv2D(1, 3, padding="same")(x)), 13)
    before, last = model.layers[-2:]
    before.bias.assign(before.bias + 1500.0)
    kernel = np.asarray(last.kernel)
    last.kernel.assign(kernel - kernel.mean(axis=2, keepdims=True))  # the 1500 cancel
    return model


def lenet() -> Any:
    from xxdeploy.convert.catalog.build import build_model
    from xxdeploy.models.catalog import find

    return build_model(find("lenet"), weights="sample")


NETWORKS: dict[str, tuple[Callable[[], Any], int | None]] = {
    "lenet": (lenet, 10),
    "small net": (small_net, 6),
    "linear classifier": (linear_classifier, 5),
    "denoiser": (denoiser, None),
}


def converted(model: Any) -> OnnxModel:
    """Return the optimized FP32 graph."""
    return optimize(onnx_from_keras(model))[0]


def mutants(model: Any, right: OnnxModel, *, most: int = 6) -> Iterator[tuple[str, OnnxModel]]:
    """Yield ``kind at node`` and the wrong graph; each kind at no more than ``most`` nodes, evenly chosen."""
    for kind, edit in EDITS.items():
        count = len(Graph(right).nodes)
        places = [index for index in range(count) if _edited(right, edit, index) is not None]
        for index in places[:: -(-len(places) // most) or 1]:
            wrong = _edited(right, edit, index)
            assert wrong is not None
            yield f"{kind} at {Graph(right).nodes[index].output[0]}", wrong
    yield from _wrong_options(model)


def _edited(right: OnnxModel, edit: Edit, index: int) -> OnnxModel | None:
    graph = Graph(right)
    return graph.to_model() if edit(graph, graph.nodes[index]) else None


def _weights(change: Callable[[NDArray[Any]], NDArray[Any] | None], *, axis: int = 1) -> Edit:
    """Return an edit of a layer's weights (``axis`` 1) or bias (2); None: the layer does not allow it."""

    def edit(graph: Graph, node: NodeProto) -> bool:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or len(node.input) <= axis:
            return False
        before = graph.constants.get(node.input[axis])
        after = None if before is None else change(before)
        if before is None or after is None or np.array_equal(before, after):
            return False
        node.input[axis] = graph.add_array("mistake", np.ascontiguousarray(after, before.dtype))
        return True

    return edit


def _neighbors(weights: NDArray[Any]) -> NDArray[Any]:
    changed = weights.copy()
    flat = changed.reshape(-1)
    middle = flat.size // 2
    flat[[middle, middle - 1]] = flat[[middle - 1, middle]]
    return changed


def _pads(change: Callable[[list[int]], list[int]], *, strided: bool = False) -> Edit:
    def edit(graph: Graph, node: NodeProto) -> bool:
        values = attributes(node)
        pads, strides = list(values.get("pads", ())), values.get("strides", (1, 1))
        changed = change(pads) if len(pads) == 4 else pads
        if changed == pads or (strided and tuple(strides) == (1, 1)):
            return False
        _set(node, "pads", changed)
        return True

    return edit


def _set(node: NodeProto, name: str, value: Any) -> None:
    for index, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[index]
            break
    node.attribute.append(helper.make_attribute(name, value))


def _shifted(pads: list[int]) -> list[int]:
    top, left, bottom, right = pads
    if top + bottom and left + right:
        return [bottom, right, top, left] if top != bottom else [top + 1, left + 1, bottom - 1, right - 1]
    return pads


def _alpha(graph: Graph, node: NodeProto) -> bool:
    if node.op_type not in ("LeakyRelu", "Elu"):
        return False
    _set(node, "alpha", attributes(node).get("alpha", 0.01 if node.op_type == "LeakyRelu" else 1.0) * 1.05)
    return True


def _pixel_shift(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Resize":
        return False
    _set(node, "coordinate_transformation_mode", "asymmetric")
    return True


def _crop(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Slice" or node.input[0] not in graph.floats:
        return False
    starts, ends = (graph.constants.get(name) for name in node.input[1:3])
    if starts is None or ends is None:
        return False
    node.input[1] = graph.add_array("starts", np.maximum(starts - 1, 0))
    shift = starts - np.maximum(starts - 1, 0)
    node.input[2] = graph.add_array("ends", ends - shift)
    return bool(shift.any())


def _bounded(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Relu":
        return False
    node.op_type = "Clip"
    node.input.extend(
        [graph.add_array("low", np.array(0, np.float32)), graph.add_array("high", np.array(6, np.float32))]
    )
    return True


def _unbounded(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Clip":
        return False
    node.op_type = "Relu"
    del node.input[1:]
    return True


def _no_activation(graph: Graph, node: NodeProto) -> bool:
    if node.op_type not in ("Relu", "LeakyRelu", "Elu"):
        return False
    node.op_type = "Identity"
    del node.attribute[:]
    return True


EDITS: dict[str, Edit] = {
    "two weights swapped": _weights(_neighbors),
    "two filters swapped": _weights(lambda w: w[[1, 0, *range(2, len(w))]] if len(w) > 1 else None),
    "input channels reversed": _weights(lambda w: w[:, ::-1] if w.ndim > 1 else None),
    "kernel transposed": _weights(lambda w: w.swapaxes(2, 3) if w.ndim == 4 and w.shape[2] == w.shape[3] else None),
    "weights scaled by 1.001": _weights(lambda w: w * np.float32(1.001)),
    "bias dropped": _weights(np.zeros_like, axis=2),
    "one bias dropped": _weights(lambda b: b * (np.arange(b.size).reshape(b.shape) != b.size // 2), axis=2),
    "padding at the other side": _pads(_shifted),
    "stride starts a pixel later": _pads(_shifted, strided=True),
    "slope 5 % larger": _alpha,
    "resize without half a pixel": _pixel_shift,
    "crop a pixel earlier": _crop,
    "relu bounded by 6": _bounded,
    "bound of 6 dropped": _unbounded,
    "activation dropped": _no_activation,
}


def _wrong_options(model: Any) -> Iterator[tuple[str, OnnxModel]]:
    """Convert the Keras model with another epsilon of each batch normalization: the graph has folded it."""
    keras = load_keras()
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms[:: -(-len(norms) // 6) or 1]:
        right = layer.epsilon
        for factor in (0.01, 1.1):
            layer.epsilon = right * factor
            wrong = converted(model)
            layer.epsilon = right
            yield f"epsilon times {factor} at {layer.name}", wrong


class Judge:
    """Judges ONNX models of one Keras model by the absolute limits and by those of an export."""

    def __init__(self, model: Any, classes: int | None, images: int) -> None:
        self.right = converted(model)
        self._output = "features" if classes is None else "probabilities"
        self._tolerance = EXACT_FEATURES if classes is None else EXACT_PROBABILITIES
        runner = KerasRunner(model, outputs=(self._output,))
        shape = (images, *model.input_shape[1:])
        pixels = golden_images(images, *shape[1:]).astype(np.float32)
        self._batches = [pixels[:1] / 127.5 - 1, pixels[1:] / 127.5 - 1]
        self._strict = Remembered(runner)
        self._wide = Remembered(runner, runner.exact)

    def rounding(self) -> Rounding:
        """Return by how much Keras in float32 differs from float64."""
        exact = self._wide.exact(self._output, self._batches)
        assert exact is not None
        return rounding_of(np.concatenate([self._wide.run(batch) for batch in self._batches]), exact)

    def difference(self, model: OnnxModel) -> float:
        """Return the difference that the limit bounds: of probabilities, or relative to the largest feature."""
        parity = compare(self._strict, OrtSession(model.to_bytes(), exact=True), self._batches)
        return parity.max_abs if self._output == "probabilities" else parity.max_rel

    def is_wrong(self, model: OnnxModel) -> bool:
        """Tell whether a mistake changes the answer: a bound of 6 changes nothing where no value is above it."""
        ours, others = (
            np.concatenate([OrtSession(each.to_bytes(), exact=True).run(batch) for batch in self._batches])
            for each in (self.right, model)
        )
        return not np.array_equal(ours, others)

    def judge(self, model: OnnxModel) -> tuple[bool, bool]:
        """Tell whether the absolute limit and the limit of an export refuse a model."""
        verdicts = []
        for reference in (self._strict, self._wide):
            try:
                prove_stage(reference, model, "onnx-fp32", self._batches, {self._output: self._tolerance})
                verdicts.append(False)
            except VerificationError:
                verdicts.append(True)
        return verdicts[0], verdicts[1]
