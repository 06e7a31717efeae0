"""The networks that xxdeploy knows by name. Imports no framework.

Parameters, size, depth and accuracy are those of https://keras.io/api/applications (ImageNet
validation set, one view an image); a test builds every network and compares its parameters.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from xxdeploy.errors import UsageError

_COMMON = frozenset({"input_size", "classes", "include_top", "pooling"})
_WIDTH = _COMMON | {"alpha"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One network of the catalog.

    Attributes
    ----------
    name : str
        Keras' name in lower case: ``mobilenetv2``.
    title : str
        The name as its authors write it: ``MobileNetV2``.
    builder : str
        ``module:function`` that gives the ``keras.Model``.
    parameters : int
        Weights of the whole network at its default options, batch norm statistics included.
    size_mb : float
        Those weights as float32, in the megabytes of Keras' own table.
    depth : int
        Keras' topological depth: activations and batch norm count where Keras counts them.
    top1, top5 : float | None
        Published accuracy on ImageNet's validation set (0..1); None where there is none.
    input_size : int
        Height and width in pixels.
    channels : int
        3 (RGB) or 1 (gray).
    classes : int
        Classes of the published network.
    preprocess : str
        What the network was trained with: ``tf``, ``caffe`` or ``torch`` (``runtime/preprocess.py``).
    options : frozenset[str]
        The fields of ``BuildOptions`` that its builder takes.
    min_size : int
        The smallest height and width that its layers can reduce.
    weights : tuple[str, ...]
        Names of weights that exist, the default first; a file is always possible.
    """

    name: str
    title: str
    builder: str
    parameters: int
    size_mb: float
    depth: int
    top1: float | None
    top5: float | None
    input_size: int
    channels: int = 3
    classes: int = 1000
    preprocess: str = "tf"
    options: frozenset[str] = _COMMON
    min_size: int = 32
    weights: tuple[str, ...] = ("imagenet", "none")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What Keras lets one choose about a network; None is the network's own default.

    Attributes
    ----------
    alpha : float | None
        Width multiplier of MobileNet and MobileNetV2.
    input_size : int | None
        Height and width in pixels.
    classes : int | None
        Outputs of the classifier.
    include_top : bool
        False leaves the classifier out: the model gives features.
    pooling : str | None
        ``avg`` or ``max`` over the features; None leaves them ``(n, h, w, c)``.
    seed : int
        For ``weights="none"``.
    """

    alpha: float | None = None
    input_size: int | None = None
    classes: int | None = None
    include_top: bool = True
    pooling: str | None = None
    seed: int = 0


def _keras(
    title: str,
    module: str,
    parameters: int,
    size_mb: float,
    depth: int,
    top1: float,
    top5: float,
    *,
    preprocess: str = "tf",
    input_size: int = 224,
    min_size: int = 32,
    options: frozenset[str] = _COMMON,
    weights: tuple[str, ...] = ("imagenet", "none"),
) -> ModelSpec:
    return ModelSpec(
        name=title.lower(),
        title=title,
        builder=f"keras.applications.{module}:{title}",
        parameters=parameters,
        size_mb=size_mb,
        depth=depth,
        top1=top1,
        top5=top5,
        input_size=input_size,
        preprocess=preprocess,
        options=options,
        min_size=min_size,
        weights=weights,
    )


CATALOG: tuple[ModelSpec, ...] = (
    _keras("Xception", "xception", 22_910_480, 88, 81, 0.790, 0.945, input_size=299, min_size=71),
    _keras("VGG16", "vgg16", 138_357_544, 528, 16, 0.713, 0.901, preprocess="caffe"),
    _keras("VGG19", "vgg19", 143_667_240, 549, 19, 0.713, 0.900, preprocess="caffe"),
    _keras("ResNet50", "resnet", 25_636_712, 98, 107, 0.749, 0.921, preprocess="caffe"),
    _keras("ResNet101", "resnet", 44_707_176, 171, 209, 0.764, 0.928, preprocess="caffe"),
    _keras("ResNet152", "resnet", 60_419_944, 232, 311, 0.766, 0.931, preprocess="caffe"),
    _keras("ResNet50V2", "resnet_v2", 25_613_800, 98, 103, 0.760, 0.930),
    _keras("ResNet101V2", "resnet_v2", 44_675_560, 171, 205, 0.772, 0.938),
    _keras("ResNet152V2", "resnet_v2", 60_380_648, 232, 307, 0.780, 0.942),
    _keras("InceptionV3", "inception_v3", 23_851_784, 92, 189, 0.779, 0.937, input_size=299, min_size=75),
    _keras("InceptionResNetV2", "inception_resnet_v2", 55_873_736, 215, 449, 0.803, 0.953, input_size=299, min_size=75),
    _keras("MobileNet", "mobilenet", 4_253_864, 16, 55, 0.704, 0.895, options=_WIDTH),
    _keras(
        "MobileNetV2",
        "mobilenet_v2",
        3_538_984,
        14,
        105,
        0.713,
        0.901,
        options=_WIDTH,
        weights=("imagenet", "sample", "none"),
    ),
    _keras("DenseNet121", "densenet", 8_062_504, 33, 242, 0.750, 0.923, preprocess="torch"),
    _keras("DenseNet169", "densenet", 14_307_880, 57, 338, 0.762, 0.932, preprocess="torch"),
    _keras("DenseNet201", "densenet", 20_242_984, 80, 402, 0.773, 0.936, preprocess="torch"),
    _keras("NASNetMobile", "nasnet", 5_326_716, 23, 389, 0.744, 0.919),
    _keras("NASNetLarge", "nasnet", 88_949_818, 343, 533, 0.825, 0.960, input_size=331),
    ModelSpec(
        name="lenet",
        title="LeNet",
        builder="xxdeploy.models.lenet:lenet",
        parameters=155_606,
        size_mb=0.6,
        depth=4,
        top1=None,
        top5=None,
        input_size=28,
        channels=1,
        classes=10,
        min_size=16,
        weights=("sample", "none"),
    ),
)

_SPELLING = re.compile(r"[\s_\-.()/]+")


def find(name: str) -> ModelSpec:
    """Return the network called ``name``, in any spelling: case, spaces, ``-`` and ``_`` do not matter.

    Raises
    ------
    UsageError
        ``unknown-model``, with the closest names as its hint.
    """
    key = _SPELLING.sub("", name).lower()
    by_name = {spec.name: spec for spec in CATALOG}
    if key in by_name:
        return by_name[key]
    close = difflib.get_close_matches(key, by_name, n=3, cutoff=0.6)
    titles = ", ".join(by_name[match].title for match in close)
    raise UsageError(
        f"there is no model called {name!r}",
        hint=f"did you mean {titles}?" if close else "`xxdeploy models` lists them",
        code="unknown-model",
    )
