"""AlexNet, the network that won ImageNet's challenge of 2012.

A. Krizhevsky, I. Sutskever, G. E. Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
NIPS 2012, section 3.5 and figure 2. One tower, as A. Krizhevsky: One weird trick for parallelizing convolutional
neural networks, 2014 (arXiv:1404.5997) has it, instead of the two halves on two GPUs, with the channels of both.
The images are 227 x 227: the paper's 224 do not give its 55 x 55 maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, response_normalization, two_dense_and_classify
from xxdeploy.optional import extra

if TYPE_CHECKING:
    import keras


def alexnet(*, lrn: bool = False, **options: Unpack[FamilyOptions]) -> keras.Model:
    """Build AlexNet with random weights: 62,378,344 parameters, ``(n, 227, 227, 3)`` -> ``(n, 1000)``.

    ``lrn`` adds the paper's local response normalization after the first two convolutions (section 3.3), which
    later networks left out. The other options are those of :class:`~xxdeploy.models.frame.Frame`; the smallest
    image is 67 x 67.
    """
    with extra("export"):
        from keras import layers

    normalize = response_normalization(lrn)

    def body(x: Tensor) -> Tensor:
        x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(x)
        x = normalize(x, "norm1")
        x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
        x = layers.Conv2D(256, 5, padding="same", activation="relu", name="conv2")(x)
        x = normalize(x, "norm2")
        x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
        x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
        x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv4")(x)
        x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv5")(x)
        return layers.MaxPooling2D(3, strides=2, name="pool5")(x)

    return Frame("alexnet", 227, **options).model(body, two_dense_and_classify)
