"""Every network of the catalog is built, without numbers, and compared with its row and with other implementations."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, ModelSpec, find

OWN = [spec for spec in CATALOG if spec.builder.startswith("xxdeploy.")]


@contextmanager
def symbolic() -> Iterator[None]:
    """Within, Keras' variables have shapes but no values: VGG19 is built in 0.1 s and no memory."""
    keras = load_keras()
    from keras.src.backend.common import global_state

    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])  # else Keras fills them in later


def build(spec: ModelSpec, **options: Any) -> Any:
    module, _, function = spec.builder.partition(":")
    size = options.pop("size", spec.input_size)
    given = {"weights": None, "input_shape": (size, size, spec.channels), "classes": spec.classes}
    return getattr(importlib.import_module(module), function)(**{**dict(spec.arguments), **given, **options})


@cache
def published(name: str) -> Any:
    """The network of a row, built once for all tests: it holds no numbers."""
    with symbolic():
        return build(find(name))


def numbers(variables: Any) -> int:
    return sum(math.prod(variable.shape) for variable in variables)


@pytest.mark.parametrize("spec", CATALOG, ids=lambda spec: spec.name)
def test_parameters_depth_and_shapes_are_those_of_the_catalog(spec: ModelSpec) -> None:
    model = published(spec.name)
    depth = sum(bool(layer.weights) for layer in model.layers)
    if spec.name.startswith("nasnet"):  # Keras' table counts the separable convolutions there in another way
        depth = spec.depth
    built = (model.count_params(), depth)
    assert built == (spec.parameters, spec.depth), "parameters and depth of the row in xxdeploy/models/catalog.py"
    assert model.input_shape == (None, spec.input_size, spec.input_size, spec.channels)
    assert model.output_shape == (None, spec.classes)


# What others count for the same network; their convolutions and batch norm have as many trained numbers as ours.
TRAINED = {
    "vgg11": 132_863_336,  # torchvision
    "vgg13": 133_047_848,  # torchvision
    "resnet18": 11_689_512,  # torchvision
    "resnet34": 21_797_672,  # torchvision
    "resnet50v1.5": 25_557_032,  # torchvision
    "resnext50": 25_028_904,  # torchvision
    "resnext101": 44_177_704,  # timm, resnext101_32x4d
    "densenet161": 28_681_000,  # torchvision
    "densenet-bc-100-12": 769_162,  # github.com/bearpaw/pytorch-classification
    "densenet-bc-190-40": 25_624_430,  # the same
    "googlenet": 6_998_552,  # bvlc_googlenet, without its auxiliary classifiers
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_numbers_are_those_of_other_implementations(name: str) -> None:
    assert numbers(published(name).trainable_weights) == TRAINED[name]


def test_inception_v4_is_that_of_others_but_for_the_scales() -> None:
    """timm's inception_v4 trains 42,679,816 numbers: as many as here, with a scale for each shift of batch norm."""
    model = published("inceptionv4")
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    scales = sum(layer.beta.shape[0] for layer in norms)
    assert numbers(model.trainable_weights) + scales == 42_679_816


def test_inception_resnet_v1_is_facenet_but_for_the_end() -> None:
    """keras-facenet has 22,808,144: a sixth C block, and a dense layer of 128 with batch norm for the classifier."""
    sixth = 2 * 1792 * 192 + 2 * 3 * 192 * 192 + (2 * 192 + 1) * 1792 + 4 * 3 * 192
    embedding = 1792 * 128 + 3 * 128
    trunk = published("inceptionresnetv1").count_params() - (1792 + 1) * 1000
    assert trunk + sixth + embedding == 22_808_144


@pytest.mark.parametrize("spec", OWN, ids=lambda spec: spec.name)
def test_gray_images_of_the_smallest_size_and_other_classes(spec: ModelSpec) -> None:
    with symbolic():
        model = build(spec, input_shape=(spec.min_size, spec.min_size, 1), classes=7)
        assert model.input_shape == (None, spec.min_size, spec.min_size, 1)
        assert model.output_shape == (None, 7)


@pytest.mark.parametrize("name", ["alexnet", "zfnet", "vgg11", "googlenet", "resnet18", "densenet-bc-40-12", "lenet"])
@pytest.mark.parametrize(("pooling", "layer"), [("avg", "GlobalAveragePooling2D"), ("max", "GlobalMaxPooling2D")])
def test_features_are_pooled(name: str, pooling: str, layer: str) -> None:
    with symbolic():
        model = build(find(name), include_top=False, pooling=pooling)
        assert model.output_shape == (None, model.layers[-2].output.shape[-1])
        assert type(model.layers[-1]).__name__ == layer


@pytest.mark.parametrize(
    "name", ["lenet", "alexnet", "zfnet", "vgg11", "inceptionv4", "inceptionresnetv1", "densenet-bc-40-12"]
)
def test_one_pixel_less_is_too_small(name: str) -> None:
    spec = find(name)
    with symbolic(), pytest.raises(ValueError, match=r"negative|zero|positive|dimension"):
        build(spec, size=spec.min_size - 1)


FEATURES = {  # of the published size, as the papers' tables have them
    "alexnet": (6, 6, 256),
    "zfnet": (6, 6, 256),
    "zfnet-512": (6, 6, 512),
    "vgg16-c": (7, 7, 512),
    "googlenet": (7, 7, 1024),
    "inceptionv4": (8, 8, 1536),
    "inceptionresnetv1": (8, 8, 1792),
    "resnet34": (7, 7, 512),
    "resnext50": (7, 7, 2048),
    "densenet161": (7, 7, 2208),
    "densenet-bc-100-12": (8, 8, 342),
}


@pytest.mark.parametrize("name", FEATURES)
def test_feature_maps_are_those_of_the_paper(name: str) -> None:
    with symbolic():
        assert build(find(name), include_top=False).output_shape[1:] == FEATURES[name]


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("alexnet", "conv1", (55, 55, 96)),
        ("alexnet", "pool2", (13, 13, 256)),
        ("zfnet", "conv1", (110, 110, 96)),
        ("zfnet", "pool1", (55, 55, 96)),
        ("zfnet", "conv2", (26, 26, 256)),
        ("googlenet", "inception_3a_output", (28, 28, 256)),
        ("googlenet", "inception_4e_output", (14, 14, 832)),
        ("inceptionv4", "stem_concat3", (35, 35, 384)),
        ("inceptionv4", "reduction_a_concat", (17, 17, 1024)),
        ("inceptionresnetv1", "stem_conv6_relu", (35, 35, 256)),
        ("inceptionresnetv1", "reduction_a_concat", (17, 17, 896)),
        ("resnet50v1.5", "conv3_block1_1_relu", (56, 56, 128)),  # v1 would have 28 x 28 here
        ("resnext50", "conv2_block1_2_relu", (56, 56, 128)),
    ],
)
def test_maps_on_the_way_are_those_of_the_paper(name: str, layer: str, shape: tuple[int, int, int]) -> None:
    assert published(name).get_layer(layer).output.shape[1:] == shape


@pytest.mark.parametrize(("depth", "growth"), [(10, 1), (22, 7), (58, 24)])
def test_any_densenet_bc_has_a_row(depth: int, growth: int) -> None:
    spec = find(f"DenseNet-BC (L={depth}, k={growth})")
    assert spec.name == f"densenet-bc-{depth}-{growth}"
    with symbolic():
        model = build(spec)
        assert model.count_params() == spec.parameters
        assert sum(bool(layer.weights) for layer in model.layers) == spec.depth


@pytest.mark.parametrize("name", ["densenet-bc-41-12", "densenet-bc-4-12", "densenet-bc-40-0"])
def test_a_densenet_bc_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find(name)
    assert caught.value.code == "unknown-model"
    assert "6n + 4" in caught.value.hint
    from xxdeploy.models.densenet import densenet_bc

    depth, growth = map(int, name.split("-")[2:])
    with pytest.raises(UsageError, match="no DenseNet-BC"):
        densenet_bc(depth, growth)


def test_auxiliary_classifiers_are_for_training() -> None:
    from xxdeploy.models.googlenet import googlenet

    keras = load_keras()
    with symbolic():
        assert googlenet(auxiliary=True).count_params() == 13_378_280  # bvlc_googlenet with its auxiliary classifiers
    trained = googlenet(auxiliary=True, input_shape=(65, 65, 3), classes=4)
    images = np.random.default_rng(0).random((2, 65, 65, 3), np.float32)
    trained.compile("sgd", ["sparse_categorical_crossentropy"] * 3, loss_weights=[1.0, 0.3, 0.3], run_eagerly=True)
    trained.train_on_batch(images, [np.zeros(2)] * 3)
    deployed = keras.Model(trained.input, trained.get_layer("predictions").output)
    assert not any("auxiliary" in layer.name for layer in deployed.layers)
    outputs = trained(images, training=False)
    assert len(outputs) == 3
    np.testing.assert_allclose(deployed(images, training=False), outputs[0], rtol=1e-5, atol=1e-7)
    keras.backend.clear_session()


def test_what_keras_applications_would_refuse() -> None:
    from xxdeploy.models.resnet import resnet18

    with pytest.raises(UsageError) as caught:
        resnet18(weights="imagenet")  # type: ignore[arg-type]
    assert caught.value.code == "no-such-weights"
    with pytest.raises(UsageError) as caught:
        resnet18(include_top=False, pooling="mean")
    assert caught.value.code == "bad-pooling"
    with pytest.raises(TypeError):
        resnet18(clases=10)  # type: ignore[call-arg]
