"""The catalog: names, and that its numbers are those of the networks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, ModelSpec, find
from xxdeploy.runtime.image.preprocess import Preprocess

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_the_number_of_networks() -> None:
    assert f"{len(CATALOG)} networks by name" in README.read_text(encoding="utf-8"), "correct the number in README.md"


def test_holds_the_networks_of_the_design() -> None:
    names = [spec.name for spec in CATALOG]
    assert len(set(names)) == len(names)
    assert {"xception", "vgg19", "resnet152v2", "inceptionresnetv2", "densenet201", "nasnetlarge", "lenet"} <= set(
        names
    )
    assert {"mobilenetv3small", "efficientnetb7", "efficientnetv2l", "convnextxlarge"} <= set(names)
    assert {"alexnet-lrn", "zfnet-512", "vgg16-c", "inceptionv4", "resnext101", "densenet-bc-190-40"} <= set(names)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("MobileNetV2", "mobilenetv2"),
        ("mobilenet-v2", "mobilenetv2"),
        ("mobilenet_v2", "mobilenetv2"),
        ("Mobilenet V2", "mobilenetv2"),
        ("resnet-50", "resnet50"),
        ("resnet50_v2", "resnet50v2"),
        ("Inception-ResNet-v2", "inceptionresnetv2"),
        ("LeNet", "lenet"),
        (" vgg 16 ", "vgg16"),
        ("AlexNet_LRN", "alexnet-lrn"),
        ("VGG16C", "vgg16-c"),
        ("VGG-A-LRN", "vgg11-lrn"),
        ("Inception v1", "googlenet"),
        ("Inception-v4", "inceptionv4"),
        ("ResNet50 v1.5", "resnet50v1.5"),
        ("ResNeXt-50 (32x4d)", "resnext50"),
        ("resnext101_32x4d", "resnext101"),
        ("DenseNet-BC (L=190, k=40)", "densenet-bc-190-40"),
        ("densenet_bc_100_12", "densenet-bc-100-12"),
        ("DenseNetBC40-12", "densenet-bc-40-12"),
        ("DenseNet-BC", "densenet-bc-100-12"),
        ("MobileNet V3 Small", "mobilenetv3small"),
        ("mobilenet_v3_large_minimalistic", "mobilenetv3large-minimalistic"),
        ("EfficientNet-B0", "efficientnetb0"),
    ],
)
def test_any_spelling(spelling: str, name: str) -> None:
    assert find(spelling).name == name


@given(st.sampled_from(CATALOG), st.randoms())
def test_case_and_separators_never_matter(spec: ModelSpec, random: object) -> None:
    choice = random.choice  # type: ignore[attr-defined]
    spelt = "".join(choice(["", "-", "_", " "]) + choice([letter.lower(), letter.upper()]) for letter in spec.title)
    assert find(spelt) is spec


@pytest.mark.parametrize(
    ("typo", "suggested"), [("mobilnetv2", "MobileNetV2"), ("resnet51", "ResNet50"), ("nasnetmobil", "NASNetMobile")]
)
def test_a_misspelling_gets_a_suggestion(typo: str, suggested: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(typo)
    assert caught.value.code == "unknown-model"
    assert suggested in caught.value.hint


@pytest.mark.parametrize("nonsense", ["", "qqqq", "../../etc/passwd"])
def test_nonsense_gets_the_list(nonsense: str) -> None:
    with pytest.raises(UsageError, match="there is no model called") as caught:
        find(nonsense)
    assert "xxdeploy models" in caught.value.hint


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
def test_a_row_is_consistent(spec: ModelSpec) -> None:
    assert spec.size_mb == pytest.approx(spec.parameters * 4 / 2**20, rel=0.15)  # Keras gives the size of its file
    assert spec.min_size <= spec.input_size
    assert spec.weights[-1] == "none"
    Preprocess(spec.input_size, spec.input_size, spec.channels, spec.preprocess)  # torch and caffe need three channels
    if "imagenet" in spec.weights:
        assert (spec.top1 is None) == spec.title.startswith("ConvNeXt")  # Keras publishes no figure for these
        assert spec.classes == 1000
    if spec.top1 is None:
        assert spec.top5 is None
    else:
        assert 0.6 < spec.top1 < (spec.top5 or 1.0) <= 1
