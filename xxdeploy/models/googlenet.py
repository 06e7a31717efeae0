"""GoogLeNet, the first Inception network.

C. Szegedy, W. Liu, Y. Jia, P. Sermanet, S. Reed, D. Anguelov, D. Erhan, V. Vanhoucke, A. Rabinovich: Going Deeper
with Convolutions, CVPR 2015 (arXiv:1409.4842), table 1 and figures 2 (b) and 3.
"""

from __future__ import annotations

from functools import partial
from typing import Unpack

from xxdeploy.models.frame import FamilyOptions, Frame, Tensor, average_and_classify, local_response
from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
_STAGES: dict[int, dict[str, tuple[int, int, int, int, int, int]]] = {
    3: {"a": (64, 96, 128, 16, 32, 32), "b": (128, 128, 192, 32, 96, 64)},
    4: {
        "a": (192, 96, 208, 16, 48, 64),
        "b": (160, 112, 224, 24, 64, 64),
        "c": (128, 128, 256, 24, 64, 64),
        "d": (112, 144, 288, 32, 64, 64),
        "e": (256, 160, 320, 32, 128, 128),
    },
    5: {"a": (256, 160, 320, 32, 128, 128), "b": (384, 192, 384, 48, 128, 128)},
}
_AUXILIARY = ("4a", "4d")
"""The modules that the auxiliary classifiers read (section 5)."""


def googlenet(*, auxiliary: bool = False, lrn: bool = True, **options: Unpack[FamilyOptions]) -> keras.Model:
    """Build GoogLeNet with random weights: 6,998,552 parameters, ``(n, 224, 224, 3)`` -> ``(n, 1000)``.

    Parameters
    ----------
    auxiliary : bool
        For training: two more outputs, of the classifiers at 4a and 4d. The paper weights their losses by 0.3.
        13,378,280 parameters in all; images of 65 x 65 or more.
    lrn : bool
        Figure 3's local response normalization around the second convolution.
    **options
        Those of :class:`~xxdeploy.models.frame.Frame`; the smallest image is 32 x 32.
    """
    frame = Frame("googlenet", 224, **options)
    taps: dict[str, Tensor] = {}

    def body(x: Tensor) -> Tensor:
        x = _conv(x, 64, 7, "conv1_7x7", strides=2)
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
        x = local_response(x, "norm1") if lrn else x
        x = _conv(x, 64, 1, "conv2_3x3_reduce")
        x = _conv(x, 192, 3, "conv2_3x3")
        x = local_response(x, "norm2") if lrn else x
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool2")(x)
        for stage, modules in _STAGES.items():
            for letter, widths in modules.items():
                x = _inception(x, widths, f"inception_{stage}{letter}")
                taps[f"{stage}{letter}"] = x
            if stage < 5:
                x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"pool{stage}")(x)
        return x

    model = frame.model(body, partial(average_and_classify, dropout=0.4))
    if not (auxiliary and frame.include_top):
        return model
    more = [_auxiliary(taps[module], frame.classes, f"auxiliary_{module}") for module in _AUXILIARY]
    return keras.Model(model.input, [model.output, *more], name="googlenet")


def _inception(x: Tensor, widths: tuple[int, int, int, int, int, int], name: str) -> Tensor:
    """Figure 2 (b): 1x1, 3x3 and 5x5 after 1x1 reductions, and a pooling with a 1x1 projection."""
    ones, reduce3, threes, reduce5, fives, projection = widths
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)
    branches = [
        _conv(x, ones, 1, f"{name}_1x1"),
        _conv(_conv(x, reduce3, 1, f"{name}_3x3_reduce"), threes, 3, f"{name}_3x3"),
        _conv(_conv(x, reduce5, 1, f"{name}_5x5_reduce"), fives, 5, f"{name}_5x5"),
        _conv(pooled, projection, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=f"{name}_output")(branches)


def _auxiliary(x: Tensor, classes: int, name: str) -> Tensor:
    """Section 5: 5x5 average pooling of stride 3, 1x1 convolution, dense 1024, 70 % dropout, softmax."""
    x = layers.AveragePooling2D(5, strides=3, name=f"{name}_pool")(x)
    x = _conv(x, 128, 1, f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(classes, activation="softmax", name=f"{name}_predictions")(x)


def _conv(x: Tensor, filters: int, size: int, name: str, *, strides: int = 1) -> Tensor:
    return layers.Conv2D(filters, size, strides=strides, padding="same", activation="relu", name=name)(x)
