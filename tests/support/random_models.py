"""Random small Keras image models: every layer and operation that image models use, in random graphs.

``random_model(seed)`` is deterministic. A model has one picture as its input and one classifier or feature map as its
output; every weight has a value that shows mistakes (no zero biases, no identity in batch normalization).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xxdeploy.convert.keras_loader import load_keras


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


Layer = Callable[["Draw", Any], Any]
ACTIVATIONS = _words(
    """
    relu relu6 elu selu tanh sigmoid softplus softsign swish gelu hard_sigmoid linear leaky_relu mish celu
    exponential hard_silu hard_tanh log_sigmoid squareplus soft_shrink hard_shrink tanh_shrink sparse_plus
    softmax
    """
)
UNARY = _words(
    """
    abs negative square tanh sigmoid relu silu sin cos log1p_abs sqrt_abs exp_small ceil floor sign
    reciprocal_plus erf logsigmoid
    """
)
MAX_VALUES = 1 << 16
"""Numbers in the tensor of one image, so that a model converts and runs in a blink."""


class Draw:
    """A seeded source of choices, and Keras."""

    def __init__(self, seed: int) -> None:
        self.keras = load_keras()
        self.layers, self.ops = self.keras.layers, self.keras.ops
        self.rng = np.random.default_rng(seed)

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


def _size(x: Any) -> tuple[int, int, int]:
    return x.shape[1], x.shape[2], x.shape[3]


def conv(draw: Draw, x: Any) -> Any:
    height, width, channels = _size(x)
    groups = draw.pick(*[g for g in (1, 1, 1, 2, 4, channels) if channels % g == 0])
    kernel = (draw.number(1, min(5, height)), draw.number(1, min(5, width)))
    stride = draw.pick(1, 1, 2, 3)
    reaches = all((taps - 1) * 2 < size for taps, size in zip(kernel, (height, width), strict=True))
    dilation = draw.pick(1, 2) if stride == 1 and reaches else 1
    padding = draw.pick("same", "valid")
    return draw.layers.Conv2D(
        groups * draw.number(1, 4),
        kernel,
        strides=stride,
        dilation_rate=dilation,
        groups=groups,
        padding=padding,
        use_bias=draw.chance(0.7),
        activation=draw.pick(None, *ACTIVATIONS[:8]),
    )(x)


def depthwise(draw: Draw, x: Any) -> Any:
    height, width, _ = _size(x)
    kernel = draw.number(1, min(5, height, width))
    stride = draw.pick(1, 1, 2)
    dilation = draw.pick(1, 2) if stride == 1 and (kernel - 1) * 2 < min(height, width) else 1
    return draw.layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        dilation_rate=dilation,
        padding=draw.pick("same", "valid"),
        depth_multiplier=draw.pick(1, 1, 2),
        use_bias=draw.chance(0.5),
    )(x)


def padded_dilated(draw: Draw, x: Any) -> Any:
    pads = draw.pick(1, 2, ((1, 2), (0, 1)))
    x = draw.layers.ZeroPadding2D(pads)(x)
    return draw.layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x)


def separable(draw: Draw, x: Any) -> Any:
    kernel = draw.number(1, min(3, *_size(x)[:2]))
    return draw.layers.SeparableConv2D(
        draw.number(1, 6), kernel, padding=draw.pick("same", "valid"), strides=draw.pick(1, 2)
    )(x)


def transposed(draw: Draw, x: Any) -> Any:
    stride, kernel = draw.number(1, 3), draw.number(1, 4)
    output_padding = draw.number(0, stride - 1) if stride > 1 and draw.chance(0.4) else None
    return draw.layers.Conv2DTranspose(
        draw.number(1, 4), kernel, strides=stride, padding=draw.pick("same", "valid"), output_padding=output_padding
    )(x)


def pool(draw: Draw, x: Any) -> Any:
    height, width, _ = _size(x)
    kind = draw.pick(draw.layers.MaxPooling2D, draw.layers.AveragePooling2D)
    size = draw.number(1, min(3, height, width))
    return kind(size, strides=draw.pick(None, 1, 2), padding=draw.pick("same", "valid"))(x)


def norm(draw: Draw, x: Any) -> Any:
    channels, layers = x.shape[-1], draw.layers
    kind = draw.pick("batch", "batch", "layer", "group", "unit", "rms", "affine")
    if kind == "batch":
        return layers.BatchNormalization(
            center=draw.chance(0.8), scale=draw.chance(0.8), epsilon=draw.pick(1e-3, 1e-5)
        )(x)
    if kind == "layer":
        return layers.LayerNormalization(axis=draw.pick(-1, [1, 2, 3]), epsilon=1e-3)(x)
    if kind == "group":
        return layers.GroupNormalization(groups=draw.pick(*[g for g in (1, 2, channels) if channels % g == 0]))(x)
    if kind == "rms":
        return layers.RMSNormalization()(x)
    if kind == "affine":
        mean, variance = draw.rng.normal(0, 1, channels), draw.rng.uniform(0.5, 2, channels)
        return layers.Normalization(mean=mean.tolist(), variance=variance.tolist())(x)
    return layers.UnitNormalization()(x)


def activation(draw: Draw, x: Any) -> Any:
    layers = draw.layers
    return draw.pick(
        layers.Activation(draw.pick(*ACTIVATIONS)),
        layers.LeakyReLU(negative_slope=0.2),
        layers.ELU(0.7),
        layers.Softmax(),
        layers.PReLU(shared_axes=draw.pick(None, [1, 2])),
        layers.ReLU(max_value=draw.pick(None, 4.0), negative_slope=0.1),
        layers.ReLU(threshold=0.5),
    )(x)


def unary(draw: Draw, x: Any) -> Any:
    ops = draw.ops
    forms: dict[str, Callable[[Any], Any]] = {
        "log1p_abs": lambda t: ops.log1p(ops.abs(t)),
        "sqrt_abs": lambda t: ops.sqrt(ops.abs(t) + 0.1),
        "exp_small": lambda t: ops.exp(t * 0.1),
        "reciprocal_plus": lambda t: ops.reciprocal(ops.abs(t) + 1.0),
        "logsigmoid": lambda t: ops.log_sigmoid(t),
    }
    name = draw.pick(*UNARY)
    return forms[name](x) if name in forms else getattr(ops, name)(x)


def scalar(draw: Draw, x: Any) -> Any:
    value = float(draw.rng.uniform(0.3, 2))
    return draw.pick(
        lambda: x * value,
        lambda: x + value,
        lambda: value - x,
        lambda: x / value,
        lambda: draw.ops.maximum(x, value),
        lambda: draw.ops.clip(x, -value, value),
        lambda: draw.ops.power(draw.ops.abs(x) + 0.1, 1.5),
        lambda: draw.ops.mod(draw.ops.abs(x), value),
        lambda: draw.layers.Rescaling(value, draw.pick(0.0, -0.3))(x),
    )()


def slices(draw: Draw, x: Any) -> Any:
    height, width, channels = _size(x)
    return draw.pick(
        lambda: x[:, ::2, ::2],
        lambda: x[..., ::-1],
        lambda: x[:, 1:] if height > 1 else x,
        lambda: x[:, :, : max(1, width - 1)],
        lambda: x[..., : max(1, channels // 2)],
        lambda: draw.ops.flip(x, axis=draw.pick(1, 2, 3)),
        lambda: draw.ops.roll(x, draw.number(0, 2), axis=draw.pick(1, 2)),
    )()


def geometry(draw: Draw, x: Any) -> Any:
    height, width, channels = _size(x)
    layers, ops = draw.layers, draw.ops
    return draw.pick(
        lambda: layers.ZeroPadding2D(draw.pick(1, (0, 2), ((1, 0), (2, 1))))(x),
        lambda: layers.Cropping2D(1)(x) if min(height, width) > 3 else x,
        lambda: layers.UpSampling2D(draw.pick(2, (1, 2), 3), interpolation=draw.pick("nearest", "bilinear"))(x),
        lambda: layers.CenterCrop(max(1, height - 1), max(1, width - 2))(x),
        lambda: layers.Permute(draw.pick((2, 1, 3), (1, 2, 3)))(x),
        lambda: layers.Reshape((width, height, channels))(x),
        lambda: (
            ops.pad(x, [[0, 0], [1, 1], [0, 2], [0, 0]], mode=draw.pick("constant", "reflect", "symmetric"))
            if min(height, width) > 2
            else x
        ),
        lambda: ops.repeat(x, 2, axis=draw.pick(1, 2)),
        lambda: ops.tile(x, (1, 1, 2, 1)),
        lambda: ops.transpose(x, (0, 2, 1, 3)),
        lambda: ops.nn.depth_to_space(x, 2) if channels % 4 == 0 else x,
        lambda: ops.nn.space_to_depth(x, 2) if height % 2 == 0 and width % 2 == 0 else x,
    )()


def resize(draw: Draw, x: Any) -> Any:
    size = (draw.number(2, 25), draw.number(2, 25))
    way = draw.pick("nearest", "bilinear", "bicubic", "area", "lanczos3", "lanczos5")
    fit: dict[str, bool] = draw.pick({}, {}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True})
    if way == "area" and fit:
        fit = {}
    return draw.layers.Resizing(*size, interpolation=way, **fit)(x)


def attention(draw: Draw, x: Any) -> Any:
    channels, layers = x.shape[-1], draw.layers
    if draw.chance(0.3) and x.shape[1] * x.shape[2] <= 64:
        tokens = layers.Reshape((x.shape[1] * x.shape[2], channels))(x)
        mixed = layers.MultiHeadAttention(2, 3)(tokens, tokens)
        return layers.Reshape((x.shape[1], x.shape[2], channels))(mixed)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(channels, 1, activation=draw.pick("sigmoid", "hard_sigmoid"))(squeezed)
    return layers.Multiply()([x, gate])


def reduction(draw: Draw, x: Any) -> Any:
    ops = draw.ops
    kind = draw.pick(ops.mean, ops.max, ops.min, ops.sum, ops.std, ops.var)
    return x - kind(x, axis=draw.pick(-1, (1, 2), [1, 2, 3]), keepdims=True)


def branches(draw: Draw, x: Any) -> Any:
    layers, count = draw.layers, draw.number(2, 3)
    arms = [
        layers.Conv2D(4, draw.pick(1, 3), padding="same", activation=draw.pick(None, "relu"))(x) for _ in range(count)
    ]
    if draw.chance(0.3):
        return draw.pick(
            lambda: arms[0] * arms[1], lambda: arms[0] - arms[1], lambda: draw.ops.maximum(arms[0], arms[1])
        )()
    kind = draw.pick(layers.Add, layers.Concatenate, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum)
    return kind()(arms)


def residual(draw: Draw, x: Any) -> Any:
    inner = step(draw, draw.layers.Conv2D(x.shape[-1], 3, padding="same")(x))
    return draw.layers.Add()([x, inner]) if inner.shape[1:] == x.shape[1:] else inner


def nested(draw: Draw, x: Any) -> Any:
    inside = draw.keras.Input(x.shape[1:])
    return draw.keras.Model(inside, step(draw, step(draw, inside)), name=f"inner_{draw.number(0, 10**6)}")(x)


def training_only(draw: Draw, x: Any) -> Any:
    layers = draw.layers
    return draw.pick(
        layers.Dropout(0.3),
        layers.SpatialDropout2D(0.2),
        layers.GaussianNoise(0.5),
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.RandomZoom(0.2),
        layers.RandomContrast(0.2),
        layers.RandomTranslation(0.1, 0.1),
        layers.ActivityRegularization(0.1),
    )(x)


STEPS: tuple[tuple[float, Layer], ...] = (
    (4, conv),
    (2, depthwise),
    (0.5, padded_dilated),
    (1, separable),
    (1, transposed),
    (2, pool),
    (2, norm),
    (2, activation),
    (1, unary),
    (1, scalar),
    (1, slices),
    (2, geometry),
    (1, resize),
    (1, attention),
    (0.7, reduction),
    (1.5, branches),
    (1, residual),
    (0.5, nested),
    (0.7, training_only),
)


def step(draw: Draw, x: Any) -> Any:
    """Append one random step; one that makes the tensor too large or empty is left out."""
    weights = np.array([weight for weight, _ in STEPS])
    layer = STEPS[int(draw.rng.choice(len(STEPS), p=weights / weights.sum()))][1]
    made = layer(draw, x)
    fits = len(made.shape) == 4 and None not in made.shape[1:] and 0 < np.prod(made.shape[1:]) <= MAX_VALUES
    return made if fits and made.shape[-1] <= 64 else x


def end(draw: Draw, x: Any) -> Any:
    layers = draw.layers
    if draw.chance(0.2):
        return layers.Conv2D(draw.number(1, 3), 1, activation=draw.pick(None, "sigmoid", "tanh"))(x)
    if draw.chance(0.3) and np.prod(x.shape[1:]) <= 4096:
        x = layers.Flatten()(x)
    else:
        x = draw.pick(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)()(x)
    if draw.chance(0.3):
        x = layers.Dense(8, activation=draw.pick("relu", "tanh"))(x)
    if draw.chance(0.3):
        x = layers.BatchNormalization()(x)
    return layers.Dense(draw.number(1, 7), activation=draw.pick("softmax", "sigmoid", None))(x)


def give_weights(model: Any, rng: np.random.Generator) -> None:
    """Draw every weight: no zero bias, no identity in batch normalization."""
    for variable in model.weights:
        name, shape = variable.path.rsplit("/", 1)[-1].lower(), tuple(variable.shape)
        if "seed" in name or "count" in name or not np.issubdtype(np.dtype(variable.dtype), np.floating):
            continue
        if "variance" in name:
            value = rng.uniform(0.3, 2, shape)
        elif "gamma" in name or name == "scale":
            value = rng.uniform(0.5, 1.5, shape)
        elif "bias" in name or "beta" in name or "mean" in name:
            value = rng.normal(0, 0.3, shape)
        elif "alpha" in name:
            value = rng.uniform(0.1, 0.4, shape)
        else:
            value = rng.normal(0, 1 / np.sqrt(max(1, np.prod(shape[:-1]))), shape)
        variable.assign(value)


def random_model(seed: int) -> Any:
    """Return a built ``keras.Model`` of 2 to 9 random steps; the same seed gives the same model."""
    draw = Draw(seed)
    image = draw.keras.Input((draw.number(9, 33), draw.number(9, 33), draw.pick(1, 3, 3)), name="picture")
    x = draw.layers.Rescaling(1 / 127.5, -1)(image) if draw.chance(0.5) else image
    for _ in range(draw.number(2, 9)):
        x = step(draw, x)
    model = draw.keras.Model(image, end(draw, x))
    give_weights(model, draw.rng)
    return model


def conversion_error(model: Any, folder: Path, seed: int) -> float | None:
    """Save, load, convert and optimize a model; return the largest difference from Keras over the largest output.

    None where Keras itself cannot run the model, or gives values that are not finite or larger than 1e6.
    """
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.convert.user_model.model_file import load_model_file
    from xxdeploy.convert.user_model.prepare import prepare_model
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.runtime.engines.ort import OrtSession

    batch = np.random.default_rng(seed).uniform(0, 255, (2, *model.input_shape[1:])).round().astype(np.float32)
    if not any(layer.name.startswith("rescaling") for layer in model.layers[:2]):
        batch = batch / np.float32(127.5) - 1
    try:
        expected = np.asarray(model(batch, training=False))
    except Exception:  # noqa: BLE001 - oneDNN refuses some transposed convolutions
        return None
    largest = float(np.abs(expected).max(initial=0))
    if not np.isfinite(expected).all() or largest > 1e6:
        return None
    path = folder / "model.keras"
    model.save(path)
    prepared = prepare_model(load_model_file(path).model, task="features")
    onnx, _ = optimize(onnx_from_keras(prepared.model, outputs=("features",)))
    answer = OrtSession(onnx.to_bytes()).run(batch)
    assert answer.shape == expected.shape
    return float(np.abs(answer - expected).max(initial=0)) / max(largest, 1e-6)


def int8_decibels(model: Any, seed: int) -> float | None:
    """Convert, optimize and quantize a model; return the signal-to-noise ratio of its INT8 answers in decibels.

    None where the answers are constant or not finite, or where nothing can become INT8.
    """
    from xxdeploy.convert.keras_to_onnx import onnx_from_keras
    from xxdeploy.errors import ConversionError
    from xxdeploy.passes.optimize import optimize
    from xxdeploy.quantize import Scheme, choose_ranges, observe_histograms, quantize
    from xxdeploy.runtime.engines.ort import OrtSession

    rng, shape = np.random.default_rng(seed), model.input_shape[1:]
    coarse = rng.uniform(0, 255, (24, -(-shape[0] // 4), -(-shape[1] // 4), shape[2])).repeat(4, 1).repeat(4, 2)
    batch = (0.8 * coarse[:, : shape[0], : shape[1]] + rng.uniform(0, 51, (24, *shape))).round().astype(np.float32)
    if not any(layer.name.startswith("rescaling") for layer in model.layers[:2]):
        batch = batch / np.float32(127.5) - 1
    onnx, _ = optimize(onnx_from_keras(model, outputs=("features",)))
    right = OrtSession(onnx.to_bytes()).run(batch).astype(np.float64)
    signal = float(np.square(right).sum())
    if not np.isfinite(right).all() or np.ptp(right) == 0 or np.abs(right).max() > 1e6:
        return None
    histograms = observe_histograms(
        onnx, lambda: (batch[start : start + 8] for start in (0, 8, 16)), data_digest="random", total=24
    )
    try:
        integer = quantize(onnx, choose_ranges(histograms, "minmax"), Scheme())
    except ConversionError as refusal:
        if refusal.code == "nothing-to-quantize":
            return None
        raise
    answer = OrtSession(integer.to_bytes()).run(batch)
    return float(10 * np.log10(signal / max(float(np.square(answer - right).sum()), 1e-20 * signal)))
