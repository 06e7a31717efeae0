"""What may be asked of a network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.models.options import check_options, image_size, output_classes

BAD = [
    ("resnet50", BuildOptions(alpha=0.5), "none", "bad-alpha", "MobileNet"),
    ("mobilenet", BuildOptions(alpha=0.35), "imagenet", "bad-alpha", "0.25"),
    ("mobilenetv2", BuildOptions(alpha=0.25), "imagenet", "bad-alpha", "0.35"),
    ("mobilenetv2", BuildOptions(alpha=-1.0), "none", "bad-alpha", "1.0"),
    ("mobilenetv2", BuildOptions(alpha=float("nan")), "none", "bad-alpha", "1.0"),
    ("mobilenetv2", BuildOptions(input_size=31), "none", "bad-input-size", "32"),
    ("xception", BuildOptions(input_size=70), "none", "bad-input-size", "71"),
    ("lenet", BuildOptions(input_size=15), "none", "bad-input-size", "16"),
    ("vgg16", BuildOptions(input_size=5000), "none", "bad-input-size", "4096"),
    ("mobilenetv2", BuildOptions(input_size=100), "imagenet", "bad-input-size", "96, 128"),
    ("resnet50", BuildOptions(input_size=256), "imagenet", "bad-input-size", "224"),
    ("resnet50", BuildOptions(classes=10), "imagenet", "bad-classes", "FILE"),
    ("resnet50", BuildOptions(classes=0), "none", "bad-classes", "2 or more"),
    ("resnet50", BuildOptions(classes=10, include_top=False), "none", "bad-classes", "--no-top"),
    ("resnet50", BuildOptions(pooling="avg"), "none", "bad-pooling", "--no-top"),
    ("resnet50", BuildOptions(pooling="mean", include_top=False), "none", "bad-pooling", "avg|max"),
    ("lenet", BuildOptions(), "imagenet", "no-such-weights", "sample|none"),
    ("vgg16", BuildOptions(), "sample", "no-sample-weights", "MobileNetV2, LeNet"),
    ("lenet", BuildOptions(seed=-1), "none", "bad-seed", "0"),
]


@pytest.mark.parametrize(("name", "options", "weights", "code", "way_out"), BAD)
def test_what_cannot_be_built_is_refused(
    name: str, options: BuildOptions, weights: str, code: str, way_out: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_options(find(name), options, weights=weights)
    assert caught.value.code == code
    assert way_out in caught.value.hint


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("mobilenetv2", BuildOptions(), "imagenet"),
        ("mobilenetv2", BuildOptions(alpha=1.4, input_size=96), "imagenet"),
        ("mobilenetv2", BuildOptions(alpha=0.3, input_size=100, classes=7), "none"),
        ("resnet50", BuildOptions(include_top=False, pooling="max", input_size=64), "imagenet"),
        ("nasnetmobile", BuildOptions(classes=10, input_size=48), "some.weights.h5"),
        ("resnet50", BuildOptions(classes=1000, input_size=224), "imagenet"),
    ],
)
def test_what_can_be_built_passes(name: str, options: BuildOptions, weights: str) -> None:
    check_options(find(name), options, weights=weights)


def test_defaults_come_from_the_network() -> None:
    spec = find("xception")
    assert (image_size(spec, BuildOptions()), output_classes(spec, BuildOptions())) == (299, 1000)
    assert (image_size(spec, BuildOptions(input_size=99)), output_classes(spec, BuildOptions(classes=3))) == (99, 3)
    assert output_classes(spec, BuildOptions(include_top=False)) is None


def test_no_framework_is_imported() -> None:
    code = "import sys, xxdeploy.models.options, xxdeploy.models.samples; print([m for m in sys.modules if m in NAMES])"
    names = "{'tensorflow', 'keras', 'onnx', 'h5py', 'numpy'}"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("NAMES", names)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
