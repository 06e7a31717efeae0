"""The residual networks that ``keras.applications`` lacks: ResNet18, ResNet34, ResNet50 v1.5, ResNeXt50, ResNeXt101.

K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv:1512.03385), table 1
and figure 5. "v1.5" halves the maps in a block's 3x3 convolution, which reads each value, and not in its first 1x1
(S. Gross, M. Wilber: Training and investigating Residual Nets, 2016).
S. Xie, R. Girshick, P. Dollar, Z. Tu, K. He: Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017
(arXiv:1611.05431), table 1 and figure 3 (c): the 3x3 convolution in 32 groups.

Convolutions have no bias, and strides of 2 are padded on both sides, as in PyTorch (unlike Keras' own ResNet50), so
weights trained with PyTorch fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias, Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, average_and_classify
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers

Block: TypeAlias = Callable[[Tensor, int, int, str], Tensor]
"""Input, width (64, 128, 256, 512), stride and name -> output."""


def resnet18(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build ResNet18: 11,699,112 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more."""
    return _resnet(Frame("resnet18", 224, **options), _basic, (2, 2, 2, 2))


def resnet34(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build ResNet34: 21,814,696 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more."""
    return _resnet(Frame("resnet34", 224, **options), _basic, (3, 4, 6, 3))


def resnet50v15(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build ResNet50 v1.5: 25,610,152 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more."""
    return _resnet(Frame("resnet50v15", 224, **options), _bottleneck, (3, 4, 6, 3))


def resnext50(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build ResNeXt50 32x4d: 25,097,128 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more."""
    return _resnet(Frame("resnext50", 224, **options), partial(_bottleneck, groups=32, widen=2), (3, 4, 6, 3))


def resnext101(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build ResNeXt101 32x4d: 44,315,560 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more."""
    return _resnet(Frame("resnext101", 224, **options), partial(_bottleneck, groups=32, widen=2), (3, 4, 23, 3))


def _resnet(frame: Frame, block: Block, blocks: tuple[int, int, int, int]) -> keras.Model:
    """Table 1: a 7x7 convolution and a pooling, then four stages, each with half the height and twice the width."""

    def body(x: Tensor) -> Tensor:
        x = layers.ReLU(name="conv1_relu")(_conv(x, 64, 7, "conv1", strides=2))
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)  # the maximum with zero: it follows a ReLU
        x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
        for stage, count in enumerate(blocks):
            for index in range(1, count + 1):
                strides = 2 if stage > 0 and index == 1 else 1
                x = block(x, 64 * 2**stage, strides, f"conv{stage + 2}_block{index}")
        return x

    return frame.model(body, average_and_classify)


def _basic(x: Tensor, width: int, strides: int, name: str) -> Tensor:
    """Figure 5, left: two 3x3 convolutions."""
    y = layers.ReLU(name=f"{name}_1_relu")(_conv(x, width, 3, f"{name}_1", strides=strides))
    y = _conv(y, width, 3, f"{name}_2")
    y = layers.Add(name=f"{name}_add")([_shortcut(x, width, strides, name), y])
    return layers.ReLU(name=f"{name}_out")(y)


def _bottleneck(x: Tensor, width: int, strides: int, name: str, *, groups: int = 1, widen: int = 1) -> Tensor:
    """Figure 5, right: 1x1, 3x3, 1x1. ResNeXt: the first two are ``widen`` times as wide, the 3x3 in ``groups``."""
    y = layers.ReLU(name=f"{name}_1_relu")(_conv(x, width * widen, 1, f"{name}_1"))
    y = layers.ReLU(name=f"{name}_2_relu")(_conv(y, width * widen, 3, f"{name}_2", strides=strides, groups=groups))
    y = _conv(y, width * 4, 1, f"{name}_3")
    y = layers.Add(name=f"{name}_add")([_shortcut(x, width * 4, strides, name), y])
    return layers.ReLU(name=f"{name}_out")(y)


def _shortcut(x: Tensor, channels: int, strides: int, name: str) -> Tensor:
    """Option B of section 3.3: the identity, or a 1x1 projection where the shape changes."""
    if strides == 1 and x.shape[-1] == channels:
        return x
    return _conv(x, channels, 1, f"{name}_0", strides=strides)


def _conv(x: Tensor, filters: int, size: int, name: str, *, strides: int = 1, groups: int = 1) -> Tensor:
    """Convolution and batch normalization, padded by ``size // 2`` on every side."""
    padding = "same"
    if strides > 1:
        padding = "valid"  # TensorFlow's "same" would pad right and below only
        if size > 1:
            x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters, size, strides=strides, padding=padding, groups=groups, use_bias=False, name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
