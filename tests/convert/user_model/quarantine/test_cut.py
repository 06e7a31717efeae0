"""A network up to a layer, and nothing of the layers downstream of it: the loss of CTC is code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from user_nets import saved, shaken

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.model_file import load_model_file
from xxdeploy.convert.user_model.prepare import select_output
from xxdeploy.convert.user_model.quarantine.cut import cut_at, inputs_of, softmax_before
from xxdeploy.errors import UsageError

BATCH = np.random.default_rng(1).uniform(-1, 1, (2, 6, 4, 1)).astype(np.float32)


def with_loss(*, aside: bool) -> tuple[Any, Any]:
    """Return a network as keras.io trains it, with its loss as a layer of the user, and the part that reads."""
    keras = load_keras()

    class CTCLayer(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def call(self, labels: Any, steps: Any) -> Any:
            self.add_loss(keras.ops.mean(steps) + keras.ops.sum(labels))
            return steps

    image, label = keras.Input((6, 4, 1), name="image"), keras.Input((None,), name="label")
    x = keras.layers.Reshape((6, 4))(image)
    other = [Other(keras)(keras.layers.Dense(5, name="aside")(x))] if aside else []  # its weights come before others
    x = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))(x)
    x = keras.layers.Dense(4, "softmax", name="dense2")(keras.layers.Dense(5)(x))
    whole = shaken(keras.Model([image, label], [CTCLayer(name="ctc")(label, x), *other]))
    return whole, keras.Model(image, x)


def Other(keras: Any) -> Any:  # noqa: N802
    class Other(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x * 2

    return Other()


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_the_part_before_a_loss_loads_with_its_own_weights(tmp_path: Path, suffix: str) -> None:
    whole, part = with_loss(aside=True)
    path = saved(whole, tmp_path / f"whole.{suffix}")
    loaded = load_model_file(path, output_layer="dense2")
    assert any("label (InputLayer)" in note and "ctc (CTCLayer)" in note for note in loaded.notes)
    assert [tensor.shape for tensor in loaded.model.inputs] == [(None, 6, 4, 1)]
    expected = np.asarray(part(BATCH, training=False))
    np.testing.assert_allclose(np.asarray(select_output(loaded.model, "dense2")(BATCH)), expected, atol=1e-6)


def test_the_hint_proposes_the_layer_and_works(tmp_path: Path) -> None:
    path = saved(with_loss(aside=False)[0], tmp_path / "whole.keras")
    with pytest.raises(UsageError) as caught:
        load_model_file(path)
    assert caught.value.code == "custom-object"
    assert str(caught.value.hint).startswith("if ctc is a part of the training only, add --output-layer dense2; ")
    load_model_file(path, output_layer="dense2")


def test_a_layer_of_the_user_upstream_stays_refused(tmp_path: Path) -> None:
    keras = load_keras()
    image = keras.Input((6, 4, 1))
    model = keras.Model(image, keras.layers.Dense(2, "softmax", name="end")(Other(keras)(image)))
    for layer in (None, "end", "nowhere"):
        with pytest.raises(UsageError) as caught:
            load_model_file(saved(model, tmp_path / "a.keras"), output_layer=layer)
        assert caught.value.code == "custom-object"
        assert "--output-layer" not in str(caught.value.hint)


def keras_3() -> dict[str, Any]:
    whole, _ = with_loss(aside=True)
    config: dict[str, Any] = json.loads(whole.to_json())
    return config


def keras_2() -> dict[str, Any]:
    def layer(kind: str, name: str, *sources: str, **options: Any) -> dict[str, Any]:
        nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
        return {"class_name": kind, "name": name, "config": {"name": name, **options}, "inbound_nodes": nodes}

    layers = [
        layer("InputLayer", "image"),
        layer("InputLayer", "label"),
        layer("Dense", "dense2", "image", activation="softmax"),
        layer("Lambda", "ctc", "dense2", "label"),
    ]
    ends = {"input_layers": [["image", 0, 0], ["label", 0, 0]], "output_layers": [["ctc", 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": layers, **ends}}


@pytest.mark.parametrize("made", [keras_2, keras_3])
def test_both_forms_of_a_configuration_are_cut(made: Callable[[], dict[str, Any]]) -> None:
    config = made()
    part = cut_at(config, "dense2")
    assert part is not None
    assert (inputs_of(config), inputs_of(part)) == (2, 1)
    assert part["config"]["output_layers"] == [["dense2", 0, 0]]
    names = [layer["config"]["name"] for layer in part["config"]["layers"]]
    assert names[-1] == "dense2"
    assert not {"label", "ctc"} & set(names)
    assert softmax_before(config, "ctc") == "dense2"
    assert softmax_before(config, "image") is None
    assert cut_at(config, "no such layer") is None
    assert cut_at(part, "dense2") is None


def test_a_sequential_model_is_cut() -> None:
    layers = [{"class_name": "Dense", "config": {"name": name}} for name in "abc"]
    config = {"class_name": "Sequential", "config": {"layers": layers}}
    part = cut_at(config, "b")
    assert part is not None
    assert [layer["config"]["name"] for layer in part["config"]["layers"]] == ["a", "b"]
    assert cut_at(config, "c") is None
