"""Which output is exported, and what becomes of it: inner layers, logits, one sigmoid, several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import user_nets

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.runner import KerasRunner
from xxdeploy.convert.user_model.prepare import prepare_model, select_output
from xxdeploy.errors import UsageError


@pytest.fixture
def nested() -> Any:
    """``image`` -> ``backbone`` (``stem``, ``deeper`` with ``conv``) -> ``pool`` -> ``head``."""
    keras = load_keras()
    layers = keras.layers
    deeper = keras.Sequential([keras.Input((14, 14, 4)), layers.Conv2D(2, 3, name="conv")], name="deeper")
    image = keras.Input((16, 16, 3))
    backbone = keras.Model(image, deeper(layers.Conv2D(4, 3, name="stem")(image)), name="backbone")
    return user_nets.net(lambda _, x: backbone(x / 255.0))


def refusal(model: Any, layer: str | None, **options: Any) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        prepare_model(model, output_layer=layer, **options)
    return caught.value.code, caught.value.hint


def test_the_whole_model_is_itself(nested: Any) -> None:
    assert select_output(nested, None) is nested
    assert select_output(nested, "head") is nested
    prepared = prepare_model(nested)
    assert prepared.model is nested
    assert (prepared.task, prepared.classes, prepared.notes) == ("classification", 5, ())


@pytest.mark.parametrize("name", ["backbone/stem", "stem"])
def test_a_layer_of_a_model_inside(nested: Any, name: str) -> None:
    images = user_nets.pictures(nested)
    backbone = nested.get_layer("backbone")
    expected = backbone.get_layer("stem")(images / 255)
    prepared = prepare_model(nested, output_layer=name)
    assert (prepared.task, prepared.classes) == ("features", None)
    np.testing.assert_allclose(KerasRunner(prepared.model).run(images), expected, atol=1e-6)


def test_a_layer_two_models_deep_and_the_models_themselves(nested: Any) -> None:
    images = user_nets.pictures(nested)
    whole = KerasRunner(select_output(nested, "backbone")).run(images)
    np.testing.assert_array_equal(KerasRunner(select_output(nested, "backbone/deeper/conv")).run(images), whole)
    np.testing.assert_array_equal(KerasRunner(select_output(nested, "deeper")).run(images), whole)
    pooled = KerasRunner(select_output(nested, "pool")).run(images)
    np.testing.assert_allclose(pooled, whole.mean((1, 2)), atol=1e-6)


def test_an_operation_can_be_the_output(nested: Any) -> None:
    name = prepare_model(nested).described.scaling[0]
    images = user_nets.pictures(nested)
    np.testing.assert_allclose(KerasRunner(select_output(nested, name)).run(images), images / 255, atol=1e-6)


def test_layers_that_are_not_there_or_not_one(nested: Any) -> None:
    code, hint = refusal(nested, "backbone/stm")
    assert (code, hint.startswith("did you mean backbone/stem")) == ("unknown-layer", True)
    code, hint = refusal(nested, "xyz")
    assert code == "unknown-layer"
    assert "head" in hint
    keras = load_keras()
    image = keras.Input((8, 8, 3))
    twice = keras.layers.Conv2D(3, 1, name="twice")
    halves = keras.ops.split(twice(twice(image)), 2, axis=1)
    model = keras.Model(image, keras.layers.Concatenate(name="last")(halves))
    assert refusal(model, "twice")[0] == "shared-layer"
    assert refusal(model, "split")[0] == "shared-layer"


def test_a_name_in_two_models_needs_its_path() -> None:
    keras = load_keras()
    parts = [
        keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 1, name="c")], name=name) for name in "ab"
    ]
    model = user_nets.net(lambda _, x: parts[1](parts[0](x)))
    code, hint = refusal(model, "c")
    assert (code, hint) == ("unknown-layer", "did you mean a/c, b/c?")
    assert prepare_model(model, output_layer="b/c").model.output_shape == (None, 16, 16, 3)


def several(*ends: tuple[str, int, str | None]) -> Any:
    """A model with a Dense layer for each ``(name, width, activation)``."""
    keras = load_keras()
    image = keras.Input((4, 4, 3))
    x = keras.layers.Flatten(name="flat")(image)
    outputs = [keras.layers.Dense(width, activation, name=name)(x) for name, width, activation in ends]
    return user_nets.shaken(keras.Model(image, outputs))


def test_of_several_outputs_the_first_classifier_comes_first() -> None:
    model = several(("age", 1, None), ("embedding", 2, None), ("kind", 3, "softmax"), ("yes", 1, "sigmoid"))
    images = user_nets.pictures(model, largest=1)
    prepared = prepare_model(model)
    found = [(output.name, output.task, output.classes) for output in prepared.outputs]
    assert found == [
        ("kind", "classification", 3),
        ("age", "features", None),
        ("embedding", "features", None),  # beside a softmax; alone it would be taken for logits
        ("yes", "classification", 2),
    ]
    assert (prepared.task, prepared.classes) == ("classification", 3)
    assert any("accuracy and predictions use the output kind" in note for note in prepared.notes)
    names = [output.name for output in prepared.outputs]
    given = KerasRunner(prepared.model, outputs=names).run_all(images)
    age, embedding, kind, yes = (np.asarray(each) for each in model(images))
    for name, expected in (("age", age), ("embedding", embedding), ("kind", kind)):
        np.testing.assert_array_equal(given[name], expected)
    np.testing.assert_allclose(given["yes"], np.concatenate([1 - yes, yes], 1), atol=1e-6)


def test_a_task_decides_what_several_outputs_are() -> None:
    model = several(("embedding", 2, None), ("kind", 3, "softmax"))
    assert [each.classes for each in prepare_model(model, task="classification").outputs] == [2, 3]
    assert [each.classes for each in prepare_model(model, task="features").outputs] == [None, None]
    assert refusal(several(("a", 1, None), ("b", 1, "relu")), None, task="classification")[0] == "not-a-classifier"


def test_one_of_several_outputs_can_be_chosen() -> None:
    model = several(("a", 3, "softmax"), ("b", 2, None))
    images = user_nets.pictures(model, largest=1)
    first = prepare_model(model, output_layer="a")
    assert (first.task, first.classes, first.model.output_shape) == ("classification", 3, (None, 3))
    np.testing.assert_array_equal(KerasRunner(first.model).run(images), model(images)[0])
    second = prepare_model(model, output_layer="b")  # an output of the model, hence a classifier's
    assert (second.task, second.classes) == ("classification", 2)
    assert prepare_model(model, output_layer="flat").task == "features"


def test_names_of_outputs_are_words_and_differ() -> None:
    keras = load_keras()
    image = keras.Input((4, 4, 3))
    twice = keras.layers.Dense(2, "softmax", name="a b")
    ends = [twice(keras.layers.Flatten()(image)), twice(keras.layers.Flatten()(image / 2))]
    ends.append(keras.layers.Flatten(name="image")(image))
    names = [output.name for output in prepare_model(keras.Model(image, ends)).outputs]
    assert names == ["a-b", "a-b_2", "image_2"]


def test_logits_become_probabilities() -> None:
    model = user_nets.net(lambda _, x: x, end="linear")
    prepared = prepare_model(model)
    images = user_nets.pictures(model, largest=1)
    logits = np.asarray(model(images))
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    expected = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(KerasRunner(prepared.model).run(images), expected, atol=1e-6)
    assert "Softmax was added" in prepared.notes[0]
    kept = prepare_model(model, task="features")
    assert (kept.model, kept.task, kept.notes) == (model, "features", ())


def test_one_sigmoid_becomes_two_classes() -> None:
    keras = load_keras()
    base = user_nets.net(lambda _, x: x)
    model = user_nets.shaken(keras.Model(base.inputs, keras.layers.Dense(1, "sigmoid")(base.output)))
    prepared = prepare_model(model)
    images = user_nets.pictures(base)
    p = KerasRunner(prepare_model(model, task="features").model).run(images)
    np.testing.assert_allclose(KerasRunner(prepared.model).run(images), np.concatenate([1 - p, p], 1), atol=1e-6)
    assert (prepared.classes, len(prepared.notes)) == (2, 1)


def test_classes_that_are_judged_by_themselves_are_said_to_be() -> None:
    prepared = prepare_model(user_nets.net(lambda _, x: x, end="sigmoid"))
    assert (prepared.task, prepared.classes) == ("classification", 5)
    assert "do not add up" in prepared.notes[0]


def test_a_softmax_over_one_class_is_said_to_be_one() -> None:
    keras = load_keras()
    image = keras.Input((4, 4, 3))
    pooled = keras.layers.GlobalMaxPooling2D()(image)
    prepared = prepare_model(keras.Model(image, keras.layers.Dense(1, activation="softmax", name="only")(pooled)))
    assert prepared.task == "features"
    assert prepared.notes[0].startswith("only is a softmax over one class: it is 1 for every picture")


def test_features_cannot_be_classified() -> None:
    model = user_nets.net(lambda _, x: x, end="relu")
    assert prepare_model(model).task == "features"
    assert refusal(model, None, task="classification")[0] == "not-a-classifier"


def test_inputs_and_outputs_in_lists_and_dictionaries() -> None:
    keras = load_keras()
    base = user_nets.net(lambda _, x: x)
    images = user_nets.pictures(base)
    for inputs, outputs in (([base.input], [base.output]), ({base.input.name: base.input}, {"p": base.output})):
        model = prepare_model(keras.Model(inputs, outputs)).model
        np.testing.assert_array_equal(KerasRunner(model).run(images), base(images))


def test_a_model_that_is_written_as_a_class() -> None:
    keras = load_keras()

    class Own(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(name="own")
            self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(3, "softmax")

        def call(self, x: Any) -> Any:
            return self.dense(self.flat(x))

    model = Own()
    code, _ = refusal(model, None)
    assert code == "not-an-image"
    images = np.random.default_rng(0).uniform(0, 1, (2, 4, 4, 3)).astype(np.float32)
    expected = np.asarray(model(images))
    prepared = prepare_model(model)
    assert (prepared.described.height, prepared.classes) == (4, None)
    np.testing.assert_allclose(KerasRunner(prepared.model).run(images), expected, atol=1e-6)
