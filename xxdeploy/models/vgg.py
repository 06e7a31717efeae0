"""VGG's columns A, A-LRN, B and C, which ``keras.applications`` lacks (it has D, VGG16, and E, VGG19).

K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015
(arXiv:1409.1556), table 1.
"""

from __future__ import annotations

from typing import Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, local_response, two_dense_and_classify
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers

_WIDTHS = (64, 128, 256, 512, 512)
"""Maps of the five blocks."""


def vgg11(*, lrn: bool = False, **options: Unpack[FamilyOptions]) -> keras.Model:
    """Build column A: 132,863,336 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more.

    ``lrn`` adds local response normalization after the first convolution (column A-LRN). The other options are those of
    :class:`~xxdeploy.models.frame.Frame`.
    """
    return _vgg(Frame("vgg11", 224, **options), ((3,), (3,), (3, 3), (3, 3), (3, 3)), lrn=lrn)


def vgg13(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build column B: 133,047,848 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more."""
    return _vgg(Frame("vgg13", 224, **options), ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)))


def vgg16c(**options: Unpack[FamilyOptions]) -> keras.Model:
    """Build column C: 133,638,952 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``; 32 x 32 or more.

    Its last three blocks end in a 1 x 1 convolution.
    """
    return _vgg(Frame("vgg16c", 224, **options), ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)))


def _vgg(frame: Frame, kernels: tuple[tuple[int, ...], ...], *, lrn: bool = False) -> keras.Model:
    """Build a column from the kernel sizes of each block's convolutions."""

    def body(x: Tensor) -> Tensor:
        for block, (filters, sizes) in enumerate(zip(_WIDTHS, kernels, strict=True), 1):
            for layer, size in enumerate(sizes, 1):
                name = f"block{block}_conv{layer}"
                x = layers.Conv2D(filters, size, padding="same", activation="relu", name=name)(x)
                if lrn and (block, layer) == (1, 1):
                    x = local_response(x, "block1_lrn")
            x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
        return x

    return frame.model(body, two_dense_and_classify)
