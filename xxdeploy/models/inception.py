"""Inception-v4 and Inception-ResNet-v1, which ``keras.applications`` lacks (it has Inception-ResNet-v2).

C. Szegedy, S. Ioffe, V. Vanhoucke, A. Alemi: Inception-v4, Inception-ResNet and the Impact of Residual Connections
on Learning, AAAI 2017 (arXiv:1602.07261). As in Keras' Inception networks, convolutions have no bias, and batch
normalizations no scale, since the next convolution can absorb it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias, Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, average_and_classify
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers

Size: TypeAlias = tuple[int, int]
"""Height and width of a kernel."""
Steps: TypeAlias = Sequence[tuple[int, Size]]
"""Filters and kernel of convolutions in a row."""

_1X1, _3X3, _1X7, _7X1, _1X3, _3X1 = (1, 1), (3, 3), (1, 7), (7, 1), (1, 3), (3, 1)
_classifier = partial(average_and_classify, dropout=0.2)  # "keep 0.8", figures 9 and 15


def inceptionv4(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build Inception-v4 (figure 9): 42,711,400 parameters, ``(n, 299, 299, 3)`` -> ``(n, 1000)``.

    The options are those of :class:`~xxdeploy.models.frame.Frame`; the smallest image is 75 x 75.
    """

    def body(x: Tensor) -> Tensor:
        x = _stem_v4(x)
        for index in range(1, 5):
            x = _inception_a(x, f"a{index}")
        x = _reduction_a(x, 192, 224, 256, 384)
        for index in range(1, 8):
            x = _inception_b(x, f"b{index}")
        x = _reduction_b_v4(x)
        for index in range(1, 4):
            x = _inception_c(x, f"c{index}")
        return x

    return Frame("inceptionv4", 299, **options).model(body, _classifier)


def inceptionresnetv1(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build Inception-ResNet-v1 (figure 15): 22,769,848 parameters, ``(n, 299, 299, 3)`` -> ``(n, 1000)``.

    Residuals are scaled by 0.17, 0.1 and 0.2 (section 3.3: 0.1 to 0.3), as in Keras' Inception-ResNet-v2.
    The options are those of :class:`~xxdeploy.models.frame.Frame`; the smallest image is 75 x 75.
    """

    def body(x: Tensor) -> Tensor:
        x = _stem_v1(x)
        for index in range(1, 6):  # figure 10
            branches = [[(32, _1X1)], [(32, _1X1), (32, _3X3)], [(32, _1X1), (32, _3X3), (32, _3X3)]]
            x = _residual(x, branches, 0.17, f"a{index}")
        x = _reduction_a(x, 192, 192, 256, 384)
        for index in range(1, 11):  # figure 11
            x = _residual(x, [[(128, _1X1)], [(128, _1X1), (128, _1X7), (128, _7X1)]], 0.1, f"b{index}")
        x = _reduction_b_v1(x)
        for index in range(1, 6):  # figure 13
            x = _residual(x, [[(192, _1X1)], [(192, _1X1), (192, _1X3), (192, _3X1)]], 0.2, f"c{index}")
        return x

    return Frame("inceptionresnetv1", 299, **options).model(body, _classifier)


def _stem_v4(x: Tensor) -> Tensor:
    """Figure 3: 299 x 299 x 3 -> 35 x 35 x 384."""
    x = _conv(x, 32, _3X3, "stem_conv1", strides=2, padding="valid")
    x = _conv(x, 32, _3X3, "stem_conv2", padding="valid")
    x = _conv(x, 64, _3X3, "stem_conv3")
    x = _concat("stem_concat1", _halve(x, "stem_pool1"), _conv(x, 96, _3X3, "stem_conv4", strides=2, padding="valid"))
    short = _chain(x, [(64, _1X1)], "stem_short")
    long = _chain(x, [(64, _1X1), (64, _7X1), (64, _1X7)], "stem_long")
    x = _concat(
        "stem_concat2",
        _conv(short, 96, _3X3, "stem_short_end", padding="valid"),
        _conv(long, 96, _3X3, "stem_long_end", padding="valid"),
    )
    return _concat(
        "stem_concat3", _conv(x, 192, _3X3, "stem_conv5", strides=2, padding="valid"), _halve(x, "stem_pool2")
    )


def _inception_a(x: Tensor, name: str) -> Tensor:
    """Figure 4: 35 x 35 x 384."""
    return _concat(
        f"{name}_concat",
        _conv(_average(x, f"{name}_pool"), 96, _1X1, f"{name}_pool_conv"),
        _conv(x, 96, _1X1, f"{name}_1x1"),
        _chain(x, [(64, _1X1), (96, _3X3)], f"{name}_3x3"),
        _chain(x, [(64, _1X1), (96, _3X3), (96, _3X3)], f"{name}_double"),
    )


def _inception_b(x: Tensor, name: str) -> Tensor:
    """Figure 5: 17 x 17 x 1024."""
    return _concat(
        f"{name}_concat",
        _conv(_average(x, f"{name}_pool"), 128, _1X1, f"{name}_pool_conv"),
        _conv(x, 384, _1X1, f"{name}_1x1"),
        _chain(x, [(192, _1X1), (224, _1X7), (256, _7X1)], f"{name}_7x7"),
        _chain(x, [(192, _1X1), (192, _1X7), (224, _7X1), (224, _1X7), (256, _7X1)], f"{name}_double"),
    )


def _reduction_b_v4(x: Tensor) -> Tensor:
    """Figure 8: 17 x 17 x 1024 -> 8 x 8 x 1536."""
    short = _conv(x, 192, _1X1, "reduction_b_short")
    long = _chain(x, [(256, _1X1), (256, _1X7), (320, _7X1)], "reduction_b_long")
    return _concat(
        "reduction_b_concat",
        _halve(x, "reduction_b_pool"),
        _conv(short, 192, _3X3, "reduction_b_short_end", strides=2, padding="valid"),
        _conv(long, 320, _3X3, "reduction_b_long_end", strides=2, padding="valid"),
    )


def _inception_c(x: Tensor, name: str) -> Tensor:
    """Figure 6: 8 x 8 x 1536; two branches end in a fork."""
    short = _conv(x, 384, _1X1, f"{name}_short")
    long = _chain(x, [(384, _1X1), (448, _1X3), (512, _3X1)], f"{name}_long")
    return _concat(
        f"{name}_concat",
        _conv(_average(x, f"{name}_pool"), 256, _1X1, f"{name}_pool_conv"),
        _conv(x, 256, _1X1, f"{name}_1x1"),
        _conv(short, 256, _1X3, f"{name}_short_1x3"),
        _conv(short, 256, _3X1, f"{name}_short_3x1"),
        _conv(long, 256, _3X1, f"{name}_long_3x1"),
        _conv(long, 256, _1X3, f"{name}_long_1x3"),
    )


def _stem_v1(x: Tensor) -> Tensor:
    """Figure 14: 299 x 299 x 3 -> 35 x 35 x 256."""
    x = _conv(x, 32, _3X3, "stem_conv1", strides=2, padding="valid")
    x = _conv(x, 32, _3X3, "stem_conv2", padding="valid")
    x = _conv(x, 64, _3X3, "stem_conv3")
    x = _halve(x, "stem_pool")
    x = _conv(x, 80, _1X1, "stem_conv4")
    x = _conv(x, 192, _3X3, "stem_conv5", padding="valid")
    return _conv(x, 256, _3X3, "stem_conv6", strides=2, padding="valid")


def _residual(x: Tensor, branches: Sequence[Steps], scale: float, name: str) -> Tensor:
    """Figures 10, 11 and 13: ``relu(x + scale * linear(branches))``."""
    mixed = _concat(f"{name}_concat", *(_chain(x, steps, f"{name}_{index}") for index, steps in enumerate(branches, 1)))
    linear = layers.Conv2D(x.shape[-1], 1, name=f"{name}_linear")(mixed)
    scaled = layers.Rescaling(scale, name=f"{name}_scale")(linear)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, scaled]))


def _reduction_b_v1(x: Tensor) -> Tensor:
    """Figure 12: 17 x 17 x 896 -> 8 x 8 x 1792."""
    ends = []
    for index, (steps, filters) in enumerate(
        [([(256, _1X1)], 384), ([(256, _1X1)], 256), ([(256, _1X1), (256, _3X3)], 256)], 1
    ):
        y = _chain(x, steps, f"reduction_b_{index}")
        ends.append(_conv(y, filters, _3X3, f"reduction_b_{index}_end", strides=2, padding="valid"))
    return _concat("reduction_b_concat", _halve(x, "reduction_b_pool"), *ends)


def _reduction_a(x: Tensor, k: int, l: int, m: int, n: int) -> Tensor:  # noqa: E741 (the paper's letters)
    """Figure 7: 35 x 35 -> 17 x 17, with the widths of table 1."""
    long = _chain(x, [(k, _1X1), (l, _3X3)], "reduction_a_long")
    return _concat(
        "reduction_a_concat",
        _halve(x, "reduction_a_pool"),
        _conv(x, n, _3X3, "reduction_a_short_end", strides=2, padding="valid"),
        _conv(long, m, _3X3, "reduction_a_long_end", strides=2, padding="valid"),
    )


def _conv(x: Tensor, filters: int, size: Size, name: str, *, strides: int = 1, padding: str = "same") -> Tensor:
    x = layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(scale=False, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _chain(x: Tensor, steps: Steps, name: str) -> Tensor:
    for index, (filters, size) in enumerate(steps, 1):
        x = _conv(x, filters, size, f"{name}_{index}")
    return x


def _concat(name: str, *branches: Tensor) -> Tensor:
    return layers.Concatenate(name=name)(branches)


def _halve(x: Tensor, name: str) -> Tensor:
    return layers.MaxPooling2D(3, strides=2, name=name)(x)


def _average(x: Tensor, name: str) -> Tensor:
    return layers.AveragePooling2D(3, strides=1, padding="same", name=name)(x)
