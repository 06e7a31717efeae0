"""Calibrate the batch normalizations of a network with random weights, so that activations keep their size.

A new batch normalization assumes inputs of mean 0 and variance 1, which only training makes true. Without it the error
of the initializer multiplies from layer to layer: the activations of MobileNet with Keras' random weights shrink to
1e-15, so its 1,000 scores are equal to the last bit for each image; the scores of ResNet101 have a deviation of 14, so
its softmax picks one of two classes by rounding errors. Parity of either says nothing about the conversion.

Here the variance of each normalization is the mean square of its input, with the layers upstream calibrated already:
one number per layer, as in Mishkin and Matas 2016, "All you need is a good init", arXiv:1511.06422. With a mean and a
variance per channel, an image with noise at 40 dB leads to 26 dB at the output of ResNet50 and 14 dB at MobileNet's:
the responses of random filters differ in size, and their common mode carries most of the signal. With one number per
layer the outputs have 60 and 50 dB.

Swish and its like halve small values and keep large ones, so each layer magnifies the difference between a dark and a
bright image. Without shifts the scores of EfficientNetB0 are a thousand times smaller for the dark one, and the
integers of the bright one cannot hold them. So each batch normalization of such a network gets random shifts, as it has
after training. Shifts that are too large drown the image instead. Between the two, the layers neither magnify nor
forget the difference of two images (Schoenholz et al. 2017, "Deep information propagation", arXiv:1611.01232). With
shifts of 0.2, 0.35 and 0.4, the image makes 55, 5 and 3 % of the power of EfficientNetV2B0's scores (24 textures of 96
pixels), and INT8 keeps 8, 22 and 26 dB of them; MobileNetV2, which has no swish, 7 % and 26 dB.

ConvNeXt starts with layer scales of 1e-6, with which no block has an effect that a comparison could see; they get
random scales (the layer is that of Touvron et al. 2021, arXiv:2103.17239).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_loader import load_keras, replaced
from xxdeploy.convert.runner import KerasRunner

if TYPE_CHECKING:
    import keras

_CONTRAST = 65.0
"""Standard deviation of the images, on the scale 0..255: above ImageNet's 58, to allow for clipping."""
_CURVED = frozenset(("gelu", "hard_silu", "silu"))
"""Activations that do not keep the ratio of two signals."""
_SHIFT = 0.35
"""Standard deviation of the random shifts; the values that they are added to have 1."""
_SCALES = 0.1, 0.5
"""The range of the random layer scales."""


def textures(n: int, height: int, width: int, channels: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw ``n`` synthetic images (n, height, width, channels) uint8.

    Each octave, from single pixels to the whole image, has the same contrast, as in photographs (Field 1987, "Relations
    between the statistics of natural images and the response properties of cortical cells"); most of it is brightness.
    Smooth images would underestimate the response of filters.
    """
    random = np.random.default_rng([seed, n, height, width, channels])
    total = random.uniform(-1, 1, (n, 1, 1, 1)) + np.zeros((n, height, width, channels))
    block = 1
    while block <= max(height, width):
        for depth, share in ((1, 1.0), (channels, 0.4)):
            coarse = random.normal(0, share, (n, -(-height // block), -(-width // block), depth))
            total += coarse.repeat(block, 1)[:, :height].repeat(block, 2)[:, :, :width]
        block *= 2
    return np.asarray((127.5 + _CONTRAST / total.std() * total).clip(0, 255).astype(np.uint8))


def settle_batch_norms(model: keras.Model, images: NDArray[np.float32]) -> int:
    """Set the variance of each batch normalization of ``model`` to the mean square of its input on ``images``.

    If ``model`` has swish, hard-swish or GELU, its batch normalizations get random shifts as well. Layer scales become
    random.

    ``model`` has one output, and runs only if it has batch normalizations; ``images`` are preprocessed, (n, h, w, c)
    float32. Returns the number of batch normalizations.
    """
    keras = load_keras()
    norm = keras.layers.BatchNormalization
    original, layers = norm.call, list(model._flatten_layers())
    curved = any(getattr(getattr(layer, "activation", None), "__name__", "") in _CURVED for layer in layers)
    random = np.random.default_rng(0)

    def call(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG001
        """Take the variance from the input before the normalization is applied."""
        size = keras.ops.mean(keras.ops.square(inputs))
        # 8 bits: the lower ones depend on the number of threads in the sum, and only the seed may decide.
        size = keras.ops.cast(keras.ops.cast(size, "bfloat16"), "float32")
        self.moving_variance.assign(keras.ops.full(self.moving_variance.shape, size))
        if curved and self.center:
            self.beta.assign(random.normal(0, _SHIFT, self.beta.shape))
        return original(self, inputs, training=False, mask=mask)

    for layer in layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(random.uniform(*_SCALES, layer.gamma.shape))
    count = sum(isinstance(layer, norm) for layer in layers)
    if count:
        with replaced(norm, "call", call):
            KerasRunner(model).run(images)
    return count
