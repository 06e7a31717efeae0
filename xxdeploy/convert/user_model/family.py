"""Which network of the catalog a model was made from, as far as the names of its layers tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xxdeploy.convert.layers import layer_paths
from xxdeploy.models.catalog import ModelSpec, find

if TYPE_CHECKING:
    import keras

_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("MobileNetV2", ("bn_Conv1", "expanded_conv_project")),
    ("MobileNet", ("conv_dw_1", "conv_pw_1")),
    ("Xception", ("block2_sepconv1", "block14_sepconv2")),
    ("VGG19", ("block1_conv1", "block5_conv4")),
    ("VGG16", ("block1_conv1", "block5_conv3")),
    ("InceptionResNetV2", ("conv_7b", "mixed_6a")),
    ("InceptionV3", ("mixed0", "mixed10")),
    ("NASNetMobile", ("stem_conv1", "stem_bn1")),
    ("ResNet50V2", ("conv1_conv", "post_bn")),
    ("DenseNet121", ("conv1_conv", "conv2_block1_concat")),
    ("ResNet50", ("conv1_conv", "conv1_bn", "conv2_block1_out")),
)
"""Names that only this network has; those that contain another's come first."""


def family_of(model: keras.Model) -> ModelSpec | None:
    """Return the network of the catalog that ``model`` seems to be made from; None where nothing speaks for one."""
    layers = {path.rpartition("/")[2]: layer for path, layer in layer_paths(model)}
    for title, marks in _MARKS:
        if all(mark in layers for mark in marks):
            if title == "ResNet50" and not layers["conv1_conv"].use_bias:
                return find("ResNet50V1.5")  # as PyTorch trains them: no bias in front of a batch normalization
            return find(title)
    return None
