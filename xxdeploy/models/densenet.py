"""The dense networks that ``keras.applications`` lacks: DenseNet-BC for 32 x 32 images, and DenseNet161.

G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely Connected Convolutional Networks, CVPR 2017
(arXiv:1608.06993), section 3 and tables 1 and 2. "B": a 1x1 convolution to four times the growth rate before each 3x3;
"C": a transition halves the maps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from xxdeploy.models.catalog import check_densenet_bc
from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, average_and_classify
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers


def densenet_bc(depth: int = 100, growth: int = 12, **options: Unpack[FamilyOptions]) -> keras.Model:
    """Build DenseNet-BC for small images: ``(n, 32, 32, 3)`` -> ``(n, 10)``; 4 x 4 or more.

    ``depth`` is L in table 2, the layers: ``6 * n + 4`` with ``n`` layer pairs a block (40, 100, 190, 250).
    ``growth`` is k, the maps that each pair adds (12, 24, 40). L=100, k=12 has 793,150 parameters; L=190, k=40 has
    25,881,390. The other options are those of :class:`~xxdeploy.models.frame.Frame`. ``UsageError``
    ``unknown-model``: no such depth or growth rate.
    """
    check_densenet_bc(depth, growth)

    def stem(x: Tensor) -> Tensor:
        return layers.Conv2D(2 * growth, 3, padding="same", use_bias=False, name="conv1_conv")(x)

    given: FamilyOptions = {"classes": 10, **options}
    return _densenet(Frame("densenet_bc", 32, **given), stem, ((depth - 4) // 6,) * 3, growth)


def densenet161(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build DenseNet161 (k = 48): 28,900,936 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more.

    The wide network of the authors' code, listed in the revision of table 1.
    """

    def stem(x: Tensor) -> Tensor:
        x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
        x = layers.Conv2D(96, 7, strides=2, use_bias=False, name="conv1_conv")(x)
        x = _norm_relu(x, "conv1")
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
        return layers.MaxPooling2D(3, strides=2, name="pool1")(x)

    return _densenet(Frame("densenet161", 224, **options), stem, (6, 12, 36, 24), 48)


def _densenet(frame: Frame, stem: Callable[[Tensor], Tensor], blocks: tuple[int, ...], growth: int) -> keras.Model:
    """Dense blocks with transitions between them."""

    def body(x: Tensor) -> Tensor:
        x = stem(x)
        for block, pairs in enumerate(blocks, 2):
            for pair in range(1, pairs + 1):
                x = _pair(x, growth, f"conv{block}_block{pair}")
            if block <= len(blocks):
                x = _transition(x, f"pool{block}")
        return _norm_relu(x, "last")

    return frame.model(body, average_and_classify)


def _pair(x: Tensor, growth: int, name: str) -> Tensor:
    """BN-ReLU-Conv(1x1) to ``4 * growth`` maps, BN-ReLU-Conv(3x3) to ``growth``, concatenated to the input."""
    y = _norm_relu(x, f"{name}_0")
    y = layers.Conv2D(4 * growth, 1, use_bias=False, name=f"{name}_1_conv")(y)
    y = _norm_relu(y, f"{name}_1")
    y = layers.Conv2D(growth, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
    return layers.Concatenate(name=f"{name}_concat")([x, y])


def _transition(x: Tensor, name: str) -> Tensor:
    """BN-ReLU-Conv(1x1) to half the maps, and 2x2 average pooling."""
    x = _norm_relu(x, name)
    x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False, name=f"{name}_conv")(x)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def _norm_relu(x: Tensor, name: str) -> Tensor:
    x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
