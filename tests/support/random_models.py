"""Random small Keras image models: every layer and operation that exports, in random graphs.

``random_model(seed)`` is deterministic. A model has one picture as its input, and one to three classifiers or feature
maps as its outputs; one of twelve computes in float16. Every weight has a value that shows mistakes (no zero biases, no
identity in batch normalization). ``model_answers`` converts the models and compares them with Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from random_forms import dtypes, shared, surface

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
        self.names = 0

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}_{self.names}"


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
    end = step(draw, step(draw, inside))
    return x if end is inside else draw.keras.Model(inside, end, name=draw.name("inner"))(x)


def inception(draw: Draw, x: Any) -> Any:
    """Merge two to four arms of any steps, resized to the size of the first."""
    layers = draw.layers
    arms = [step(draw, x) for _ in range(draw.number(2, 4))]
    size = _size(arms[0])[:2]
    arms = [arm if _size(arm)[:2] == size else layers.Resizing(*size)(arm) for arm in arms]
    if draw.chance(0.6):
        return layers.Concatenate()(arms)
    return draw.pick(layers.Add, layers.Average, layers.Maximum)()([layers.Conv2D(6, 1)(arm) for arm in arms])


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
    (4, surface),
    (1, dtypes),
    (1, shared),
    (0.8, inception),
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


SIZES = (5, 7, 8, 11, 13, 16, 17, 19, 23, 24, 28, 29, 31, 32, 33, 37, 41)


def random_model(seed: int) -> Any:
    """Return a built ``keras.Model`` of 2 to 9 random steps; the same seed gives the same model."""
    draw = Draw(seed)
    policy = draw.keras.config.dtype_policy()
    if draw.chance(1 / 12):
        draw.keras.config.set_dtype_policy("mixed_float16")
    try:
        return _drawn(draw)
    finally:
        draw.keras.config.set_dtype_policy(policy)


def _drawn(draw: Draw) -> Any:
    image = draw.keras.Input((draw.pick(*SIZES), draw.pick(*SIZES), draw.pick(1, 3, 3)), name="picture")
    x = draw.layers.Rescaling(1 / 127.5, -1)(image) if draw.chance(0.5) else image
    passed = []
    for _ in range(draw.number(2, 9)):
        x = step(draw, x)
        passed.append(x)
    outputs = [end(draw, x)]
    if draw.chance(0.2):
        outputs += [end(draw, draw.pick(*passed)) for _ in range(draw.number(1, 2))]
    model = draw.keras.Model(image, outputs if len(outputs) > 1 else outputs[0])
    give_weights(model, draw.rng)
    return model
