"""AlexNet, the winner of ImageNet's challenge of 2012, and ZFNet, its form with a finer first layer.

A. Krizhevsky, I. Sutskever, G. E. Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
NIPS 2012, section 3.5 and figure 2. One tower with the channels of the paper's two halves, as in A. Krizhevsky: One
weird trick for parallelizing convolutional neural networks, 2014 (arXiv:1404.5997). Images are 227 x 227, since the
paper's 224 do not lead to its maps of 55 x 55.

M. D. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014 (arXiv:1311.2901), figure 3:
7 x 7 convolutions of stride 2 instead of AlexNet's 11 x 11 of stride 4. Table 2 (b) has the wider form, with 512, 1024
and 512 maps in layers 3, 4 and 5.
"""

from __future__ import annotations

from typing import Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, local_response, two_dense_and_classify
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers


def alexnet(*, lrn: bool = False, **options: Unpack[FamilyOptions]) -> keras.Model:
    """Build AlexNet with random weights: 62,378,344 parameters, ``(n, 227, 227, 3)`` -> ``(n, 1000)``.

    ``lrn`` adds the paper's local response normalization after the first two convolutions (section 3.3), which later
    networks omit. The other options are those of :class:`~xxdeploy.models.frame.Frame`; the smallest
    image is 67 x 67.
    """

    def body(x: Tensor) -> Tensor:
        x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(x)
        x = local_response(x, "norm1") if lrn else x
        x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
        x = layers.Conv2D(256, 5, padding="same", activation="relu", name="conv2")(x)
        x = local_response(x, "norm2") if lrn else x
        x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
        x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
        x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv4")(x)
        x = layers.Conv2D(256, 3, padding="same", activation="relu", name="conv5")(x)
        return layers.MaxPooling2D(3, strides=2, name="pool5")(x)

    return Frame("alexnet", 227, **options).model(body, two_dense_and_classify)


def zfnet(
    *, maps: tuple[int, int, int] = (384, 384, 256), lrn: bool = False, **options: Unpack[FamilyOptions]
) -> keras.Model:
    """Build ZFNet with random weights: 62,357,608 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``.

    ``maps`` is the width of layers 3, 4 and 5; ``(512, 1024, 512)`` has 107,627,624 parameters. ``lrn`` adds the
    paper's contrast normalization across feature maps, after the first two poolings. The other options are those
    of :class:`~xxdeploy.models.frame.Frame`; the smallest image is 53 x 53.
    """

    def body(x: Tensor) -> Tensor:
        x = layers.ZeroPadding2D(1, name="pad1")(x)
        x = layers.Conv2D(96, 7, strides=2, activation="relu", name="conv1")(x)  # 110 x 110
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)  # 55 x 55
        x = local_response(x, "norm1") if lrn else x
        x = layers.Conv2D(256, 5, strides=2, activation="relu", name="conv2")(x)  # 26 x 26
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool2")(x)  # 13 x 13
        x = local_response(x, "norm2") if lrn else x
        for layer, filters in enumerate(maps, 3):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{layer}")(x)
        return layers.MaxPooling2D(3, strides=2, name="pool5")(x)  # 6 x 6

    return Frame("zfnet", 224, **options).model(body, two_dense_and_classify)
