"""Random weights whose activations keep their size, as those of a trained network do.

A new batch normalization takes its input for one of mean 0 and variance 1, which only training makes true. Until then
what the initializer leaves over or out is multiplied from layer to layer: the activations of MobileNet with Keras'
random weights shrink to 1e-15, so that its 1,000 scores are equal to the last bit whatever the picture; the scores of
ResNet101 have a deviation of 14, so that its softmax picks one of two classes by what rounding leaves. Parity of
either says nothing about the conversion.

Here each normalization gets the mean square of what it is fed for its variance, the layers in front of it settled
already: one number a layer, as in Mishkin and Matas 2016, "All you need is a good init", arXiv:1511.06422. With a mean
and a variance for each channel, noise of 40 dB in the picture came out of ResNet50 as 26 dB and out of MobileNet as
14 dB: random filters have no reason to be as loud as each other, and what all pictures share carries most of the
signal. With one number it comes out as 60 and 50 dB.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.libraries import load_keras
from xxdeploy.convert.runner import KerasRunner

if TYPE_CHECKING:
    import keras

_CONTRAST = 65.0
"""Standard deviation of the pictures, of 0 to 255: a little more than ImageNet's 58, for what is clipped."""


def textures(n: int, height: int, width: int, channels: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Draw ``n`` pictures (n, height, width, channels) uint8 to settle a network on.

    As much contrast in every octave, from single pixels to the whole picture, which is how photographs are made (Field
    1987, "Relations between the statistics of natural images and the response properties of cortical cells"), most of
    it in brightness. On smooth pictures filters look weaker than they are.
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
    """Give the batch normalizations of ``model`` the mean square of their inputs on ``images`` for their variance.

    Parameters
    ----------
    model
        With one output; changed in place.
    images
        Preprocessed, (n, h, w, c) float32.

    Returns
    -------
    int
        How many there are. Without any nothing is run.
    """
    load_keras()
    count = sum(_is_batch_norm(layer) for layer in model._flatten_layers())
    if count:
        with _measuring():
            KerasRunner(model).run(images)
    return count


def _is_batch_norm(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization)


@contextmanager
def _measuring() -> Iterator[None]:
    """Let every batch normalization that is called take over the size of its input before it uses it."""
    import keras

    original = keras.layers.BatchNormalization.call

    def call(self: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG001
        size = keras.ops.mean(keras.ops.square(inputs))
        # 8 bits of it: the last ones depend on how many threads added up, and the seed shall decide alone.
        size = keras.ops.cast(keras.ops.cast(size, "bfloat16"), "float32")
        self.moving_variance.assign(keras.ops.full(self.moving_variance.shape, size))
        return original(self, inputs, training=False, mask=mask)

    keras.layers.BatchNormalization.call = call
    try:
        yield
    finally:
        keras.layers.BatchNormalization.call = original
