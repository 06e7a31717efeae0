"""The networks that xxdeploy knows by name. Imports no framework.

Figures of Keras' networks are those of https://keras.io/api/applications (ImageNet validation set, one view per image).
The accuracy of the others, if it was published for exactly this network, is from:

- ResNet18, ResNet34, ResNet50 v1.5, DenseNet161: PyTorch's weights (torchvision, ``IMAGENET1K_V1``), one view.
- ResNeXt50 and ResNeXt101: weights of the former package keras-applications, one view.
- GoogLeNet: Caffe's (``bvlc_googlenet``), one view.
- VGG11, VGG11-LRN, VGG13, VGG16-C: table 3 of their paper, one scale, densely over the image.
- Inception-v4, Inception-ResNet-v1: table 2 of their paper, one view, without the blacklisted images.
- MobileNetV3: the documentation of ``keras.applications.MobileNetV3Small``, which has no top-5.
- ConvNeXt: none. Its paper's figures were measured in PyTorch.

A test builds each network and compares parameters, depth and shapes.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from xxdeploy.errors import UsageError

_COMMON = frozenset({"input_size", "classes", "include_top", "pooling"})
_WIDTH = _COMMON | {"alpha"}

Arguments: TypeAlias = tuple[tuple[str, bool | int | tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One network of the catalog.

    ``title`` is the name as its authors write it (``MobileNetV2``), ``name`` the same in lower case. ``builder``,
    ``module:function``, returns the ``keras.Model``; ``arguments`` are its arguments in addition to the user's options,
    of which it accepts those in ``options``. ``parameters`` is the number of weights at the default options, including
    statistics of batch normalization, ``size_mb`` their size in float32, in megabytes (of the older networks as in
    Keras' own table), and ``depth`` the number of layers with weights, including batch normalization, as Keras counts.
    ``top1`` and ``top5`` are the published accuracy on ImageNet's validation set (0..1), or None. ``input_size`` and
    ``min_size`` are height and width in pixels, ``channels`` is 3 (RGB) or 1 (gray), ``preprocess`` a mode of
    ``runtime/image/preprocess.py``: ``none`` where the network scales pixels itself. ``weights`` are those that exist,
    the default first; a file is always possible.
    """

    name: str
    title: str
    builder: str
    parameters: int
    size_mb: float
    depth: int
    top1: float | None
    top5: float | None
    input_size: int = 224
    channels: int = 3
    classes: int = 1000
    preprocess: str = "tf"
    options: frozenset[str] = _COMMON
    min_size: int = 32
    weights: tuple[str, ...] = ("imagenet", "none")
    arguments: Arguments = ()


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The user's choices for a network; None is the network's default.

    ``alpha`` is the width multiplier of MobileNet and MobileNetV2, ``input_size`` the height and width in pixels,
    ``classes`` the number of outputs of the classifier, ``seed`` that of ``weights="none"``. ``include_top`` False
    removes the classifier: the model returns features ``(n, h, w, c)``; ``pooling`` ``avg`` or ``max``: ``(n, c)``.
    """

    alpha: float | None = None
    input_size: int | None = None
    classes: int | None = None
    include_top: bool = True
    pooling: str | None = None
    seed: int = 0


def _keras(
    title: str, module: str, parameters: int, size_mb: float, depth: int, top1: float, top5: float, **more: Any
) -> ModelSpec:
    """Return the row of a network of ``keras.applications``."""
    builder = f"keras.applications.{module}:{title}"
    return ModelSpec(title.lower(), title, builder, parameters, size_mb, depth, top1, top5, **more)


def _scaling_inside(
    title: str, parameters: int, depth: int, top1: float | None = None, top5: float | None = None, **more: Any
) -> ModelSpec:
    """Return the row of a network of ``keras.applications`` that takes pixels 0..255 and scales them itself.

    ``title`` is the name of its function, and what follows a hyphen in it is an argument: ``-Minimalistic``.
    """
    function, _, variant = title.partition("-")
    more = {"preprocess": "none", "weights": ("imagenet", "none")} | more
    if variant:
        more["arguments"] = ((variant.lower(), True),)
    builder = f"keras.applications:{function}"
    return ModelSpec(title.lower(), title, builder, parameters, _megabytes(parameters), depth, top1, top5, **more)


def _megabytes(parameters: int) -> float:
    """Return the size of float32 ``parameters``, rounded as the table shows it."""
    megabytes = parameters * 4 / 2**20
    return round(megabytes) if megabytes >= 10 else float(f"{megabytes:.2g}")


def _family(
    title: str,
    builder: str,
    parameters: int,
    depth: int,
    top1: float | None = None,
    top5: float | None = None,
    **more: Any,
) -> ModelSpec:
    """Return the row of a network of ``xxdeploy.models``."""
    more = {"preprocess": "torch", "weights": ("none",)} | more
    builder = f"xxdeploy.models.{builder}"
    return ModelSpec(title.lower(), title, builder, parameters, _megabytes(parameters), depth, top1, top5, **more)


def check_densenet_bc(depth: int, growth: int) -> None:
    """Refuse (``unknown-model``) a depth that is not ``6 * n + 4``, for three equal blocks of layer pairs."""
    if depth < 10 or (depth - 4) % 6 or growth < 1:
        raise UsageError(
            f"there is no DenseNet-BC with {depth} layers and growth rate {growth}",
            hint="the number of layers is 6n + 4 (40, 100, 190, ...), the growth rate at least 1: densenet-bc-100-12",
            code="unknown-model",
        )


def _densenet_bc(depth: int, growth: int) -> ModelSpec:
    """Return the row of DenseNet-BC with L = ``depth`` and k = ``growth``; parameters by the layout of table 1."""
    pairs = (depth - 4) // 6  # of layers in each of the three blocks
    channels = 2 * growth
    parameters = 3 * 3 * 3 * channels
    for block in range(3):
        for _ in range(pairs):  # batch norm has four numbers a channel
            parameters += 4 * channels + channels * 4 * growth
            parameters += 4 * 4 * growth + 9 * 4 * growth * growth
            channels += growth
        parameters += 4 * channels
        if block < 2:
            parameters += channels * (channels // 2)
            channels //= 2
    return _family(
        f"DenseNet-BC-{depth}-{growth}",
        "densenet:densenet_bc",
        parameters + (channels + 1) * 10,
        12 * pairs + 7,
        input_size=32,
        min_size=4,
        classes=10,
        arguments=(("depth", depth), ("growth", growth)),
    )


_LRN: Arguments = (("lrn", True),)
_WIDE: Arguments = (("maps", (512, 1024, 512)),)
_SAMPLE = ("imagenet", "sample", "none")
_INCEPTION = {"preprocess": "tf", "input_size": 299, "min_size": 75}

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
    _keras("MobileNetV2", "mobilenet_v2", 3_538_984, 14, 105, 0.713, 0.901, options=_WIDTH, weights=_SAMPLE),
    _keras("DenseNet121", "densenet", 8_062_504, 33, 242, 0.750, 0.923, preprocess="torch"),
    _keras("DenseNet169", "densenet", 14_307_880, 57, 338, 0.762, 0.932, preprocess="torch"),
    _keras("DenseNet201", "densenet", 20_242_984, 80, 402, 0.773, 0.936, preprocess="torch"),
    _keras("NASNetMobile", "nasnet", 5_326_716, 23, 389, 0.744, 0.919),
    _keras("NASNetLarge", "nasnet", 88_949_818, 343, 533, 0.825, 0.960, input_size=331),
    _scaling_inside("MobileNetV3Small", 2_554_968, 88, 0.681, options=_WIDTH),
    _scaling_inside("MobileNetV3Small-Minimalistic", 2_056_848, 70, 0.619, options=_WIDTH),
    _scaling_inside("MobileNetV3Large", 5_507_432, 110, 0.756, options=_WIDTH),
    _scaling_inside("MobileNetV3Large-Minimalistic", 3_948_688, 94, 0.723, options=_WIDTH),
    _scaling_inside("EfficientNetB0", 5_330_571, 132, 0.771, 0.933),
    _scaling_inside("EfficientNetB1", 7_856_239, 186, 0.791, 0.944, input_size=240),
    _scaling_inside("EfficientNetB2", 9_177_569, 186, 0.801, 0.949, input_size=260),
    _scaling_inside("EfficientNetB3", 12_320_535, 210, 0.816, 0.957, input_size=300),
    _scaling_inside("EfficientNetB4", 19_466_823, 258, 0.829, 0.964, input_size=380),
    _scaling_inside("EfficientNetB5", 30_562_527, 312, 0.836, 0.967, input_size=456),
    _scaling_inside("EfficientNetB6", 43_265_143, 360, 0.840, 0.968, input_size=528),
    _scaling_inside("EfficientNetB7", 66_658_687, 438, 0.843, 0.970, input_size=600),
    _scaling_inside("EfficientNetV2B0", 7_200_312, 151, 0.787, 0.943),
    _scaling_inside("EfficientNetV2B1", 8_212_124, 185, 0.798, 0.950, input_size=240),
    _scaling_inside("EfficientNetV2B2", 10_178_374, 193, 0.805, 0.951, input_size=260),
    _scaling_inside("EfficientNetV2B3", 14_467_622, 225, 0.820, 0.958, input_size=300),
    _scaling_inside("EfficientNetV2S", 21_612_360, 281, 0.839, 0.967, input_size=384),
    _scaling_inside("EfficientNetV2M", 54_431_388, 403, 0.853, 0.974, input_size=480),
    _scaling_inside("EfficientNetV2L", 119_027_848, 557, 0.857, 0.975, input_size=480),
    _scaling_inside("ConvNeXtTiny", 28_589_128, 96),
    _scaling_inside("ConvNeXtSmall", 50_223_688, 186),
    _scaling_inside("ConvNeXtBase", 88_591_464, 186),
    _scaling_inside("ConvNeXtLarge", 197_767_336, 186),
    _scaling_inside("ConvNeXtXLarge", 350_196_968, 186),
    _family(
        "LeNet",
        "lenet:lenet",
        155_606,
        4,
        input_size=28,
        channels=1,
        classes=10,
        preprocess="tf",
        min_size=16,
        weights=("sample", "none"),
    ),
    _family("AlexNet", "alexnet:alexnet", 62_378_344, 8, preprocess="caffe", input_size=227, min_size=67),
    _family(
        "AlexNet-LRN", "alexnet:alexnet", 62_378_344, 8, preprocess="caffe", input_size=227, min_size=67, arguments=_LRN
    ),
    _family("ZFNet", "alexnet:zfnet", 62_357_608, 8, preprocess="caffe", min_size=53),
    _family("ZFNet-LRN", "alexnet:zfnet", 62_357_608, 8, preprocess="caffe", min_size=53, arguments=_LRN),
    _family("ZFNet-512", "alexnet:zfnet", 107_627_624, 8, preprocess="caffe", min_size=53, arguments=_WIDE),
    _family("VGG11", "vgg:vgg11", 132_863_336, 11, 0.704, 0.896, preprocess="caffe"),
    _family("VGG11-LRN", "vgg:vgg11", 132_863_336, 11, 0.703, 0.895, preprocess="caffe", arguments=_LRN),
    _family("VGG13", "vgg:vgg13", 133_047_848, 13, 0.713, 0.901, preprocess="caffe"),
    _family("VGG16-C", "vgg:vgg16c", 133_638_952, 16, 0.719, 0.906, preprocess="caffe"),
    _family("GoogLeNet", "googlenet:googlenet", 6_998_552, 58, 0.687, 0.889, preprocess="caffe"),
    _family("InceptionV4", "inception:inceptionv4", 42_711_400, 299, 0.800, 0.950, **_INCEPTION),
    _family("InceptionResNetV1", "inception:inceptionresnetv1", 22_769_848, 235, 0.787, 0.945, **_INCEPTION),
    _family("ResNet18", "resnet:resnet18", 11_699_112, 41, 0.698, 0.891),
    _family("ResNet34", "resnet:resnet34", 21_814_696, 73, 0.733, 0.914),
    _family("ResNet50V1.5", "resnet:resnet50v15", 25_610_152, 107, 0.761, 0.929),
    _family("ResNeXt50", "resnet:resnext50", 25_097_128, 107, 0.777, 0.938),
    _family("ResNeXt101", "resnet:resnext101", 44_315_560, 209, 0.787, 0.943),
    _densenet_bc(40, 12),
    _densenet_bc(100, 12),
    _densenet_bc(190, 40),
    _family("DenseNet161", "densenet:densenet161", 28_900_936, 322, 0.771, 0.936),
)

_SPELLING = re.compile(r"[\s_\-.()/]+")
_ALSO = {
    "inceptionv1": "googlenet",
    "resnext5032x4d": "resnext50",
    "resnext10132x4d": "resnext101",
    "zfnet5121024512": "zfnet-512",
    "vgga": "vgg11",
    "vggalrn": "vgg11-lrn",
    "vggb": "vgg13",
    "vggc": "vgg16-c",
    "vggd": "vgg16",
    "vgge": "vgg19",
    "densenetbc": "densenet-bc-100-12",
}
"""Alternative names, without separators."""
_DENSENET_BC = re.compile(
    r"densenet[\s_-]*bc[\s_(-]*(?:l\s*=\s*)?(\d{1,3})[\s_,-]+(?:k\s*=\s*)?(\d{1,3})\)?", re.IGNORECASE
)


def find(name: str) -> ModelSpec:
    """Return the network called ``name`` in any spelling: case, spaces, ``-`` and ``_`` do not matter.

    ``densenet-bc-L-k`` is DenseNet-BC of any depth and growth rate.

    Raises
    ------
    UsageError
        ``unknown-model``; the hint has the closest names.
    """
    if match := _DENSENET_BC.fullmatch(name.strip()):
        depth, growth = (int(number) for number in match.groups())
        check_densenet_bc(depth, growth)
        made = _densenet_bc(depth, growth)
        return next((spec for spec in CATALOG if spec.name == made.name), made)
    key = _key(name)
    by_name = {_key(spec.name): spec for spec in CATALOG}
    if key in _ALSO:
        key = _key(_ALSO[key])
    if key in by_name:
        return by_name[key]
    close = difflib.get_close_matches(key, by_name, n=3, cutoff=0.6)
    titles = ", ".join(by_name[match].title for match in close)
    raise UsageError(
        f"there is no model called {name!r}",
        hint=f"did you mean {titles}?" if close else "`xxdeploy models` lists all models",
        code="unknown-model",
    )


def _key(name: str) -> str:
    return _SPELLING.sub("", name).lower()
