"""ZFNet, AlexNet with a finer first layer.

M. D. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014 (arXiv:1311.2901), figure 3:
7 x 7 convolutions of stride 2 for AlexNet's 11 x 11 of stride 4. Table 2 (b) has the wider form, with
512, 1024 and 512 maps in layers 3, 4 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, response_normalization, two_dense_and_classify
from xxdeploy.optional import extra

if TYPE_CHECKING:
    import keras


def zfnet(
    *, maps: tuple[int, int, int] = (384, 384, 256), lrn: bool = False, **options: Unpack[FamilyOptions]
) -> keras.Model:
    """Build ZFNet with random weights: 62,357,608 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``.

    ``maps`` are those of layers 3, 4 and 5; ``(512, 1024, 512)`` has 107,627,624 parameters. ``lrn`` adds the
    paper's contrast normalization across feature maps, after the first two poolings. The other options are those
    of :class:`~xxdeploy.models.frame.Frame`; the smallest image is 53 x 53.
    """
    with extra("export"):
        from keras import layers

    normalize = response_normalization(lrn)

    def body(x: Tensor) -> Tensor:
        x = layers.ZeroPadding2D(1, name="pad1")(x)
        x = layers.Conv2D(96, 7, strides=2, activation="relu", name="conv1")(x)  # 110 x 110
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)  # 55 x 55
        x = normalize(x, "norm1")
        x = layers.Conv2D(256, 5, strides=2, activation="relu", name="conv2")(x)  # 26 x 26
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool2")(x)  # 13 x 13
        x = normalize(x, "norm2")
        for layer, filters in enumerate(maps, 3):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{layer}")(x)
        return layers.MaxPooling2D(3, strides=2, name="pool5")(x)  # 6 x 6

    return Frame("zfnet", 224, **options).model(body, two_dense_and_classify)
