"""Model files that would have Keras run code, by every way that was found so far: refused, and named."""

from __future__ import annotations

import base64
import marshal
from pathlib import Path

import pytest
from model_files import Config, archive, layer, legacy, model, refusal_code, refused

from xxdeploy.convert.user_model.quarantine.child import inspect
from xxdeploy.errors import UsageError

CODE = base64.b64encode(marshal.dumps((lambda x: x.shape).__code__)).decode()
LAMBDAS: dict[str, Config] = {
    "a lambda of Keras 3": {"class_name": "__lambda__", "config": {"code": CODE, "defaults": None, "closure": None}},
    "a lambda of Keras 2": [CODE, None, None],  # type: ignore[dict-item]
    "os.system": {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
    "CVE-2025-8747: get_file": {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    "CVE-2025-9906: load_model": {"module": "keras.models", "class_name": "function", "config": "load_model"},
    "a plain name": "system",  # type: ignore[dict-item]
}


@pytest.mark.parametrize("function", LAMBDAS)
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_lambda_layers_are_refused_in_both_formats(tmp_path: Path, function: str, kind: str) -> None:
    """CVE-2025-9905: Keras' own ``.h5`` reader did not ask for ``safe_mode``."""
    config = model(layer("keras.layers", "Lambda", {"name": "evil", "function": LAMBDAS[function]}, "image"))
    path = archive(tmp_path / "a.keras", config) if kind == "keras" else legacy(tmp_path / "a.h5", config)
    error = refused(path, tmp_path)
    assert error.code == "lambda-layer"
    assert "'evil'" in error.message
    assert "--unsafe-lambda" in error.hint


def test_a_lambda_that_hides_beside_a_function_of_the_users(tmp_path: Path) -> None:
    given = {"module": "mine", "class_name": "function", "config": "twice", "registered_name": "function"}
    inner = {"name": "evil", "function": given}
    fine = model(layer("keras.layers", "Lambda", inner, "image"))
    inspect(archive(tmp_path / "a.keras", fine), "keras", tmp_path, custom=frozenset({"twice"}))
    for key, function in (("output_shape", LAMBDAS["a lambda of Keras 3"]), ("mask", [CODE, None, None])):
        hidden = model(layer("keras.layers", "Lambda", {**inner, key: function}, "image"))
        path = archive(tmp_path / "b.keras", hidden)
        with pytest.raises(UsageError) as caught:
            inspect(path, "keras", tmp_path, custom=frozenset({"twice"}))
        assert caught.value.code == "lambda-layer"


STRANGERS: dict[str, tuple[Config, str]] = {
    "CVE-2025-1550: a function of any module": (
        {"module": "subprocess", "class_name": "function", "config": "run", "registered_name": "function"},
        "unsafe-model",
    ),
    "a class of any module": ({"module": "subprocess", "class_name": "Popen", "config": {}}, "unsafe-model"),
    "a builtin": ({"module": "builtins", "class_name": "function", "config": "exec"}, "unsafe-model"),
    "a lambda outside of a layer": ({"class_name": "__lambda__", "config": {"value": CODE}}, "lambda-layer"),
    "a type": (
        {"class_name": "__typespec__", "spec_name": "X", "module": "os", "registered_name": None, "config": []},
        "unsafe-model",
    ),
    "CVE-2025-9906: enable_unsafe_deserialization": (
        {"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"},
        "unsupported-layer",
    ),
    "an inner function of Keras": (
        {"module": "keras.src.backend.common.global_state", "class_name": "function", "config": "set_global_attribute"},
        "unsupported-layer",
    ),
    "CVE-2025-12058: a layer that reads files": (
        {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
        "unsupported-layer",
    ),
    "CVE-2025-49655: a layer that unpickles": (
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}}, "unsupported-layer",
    ),
    "a saved model elsewhere": (
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}}, "unsupported-layer",
    ),
    "an operation that makes tensors from nothing": (
        {"module": "keras.src.ops.numpy", "class_name": "Full", "config": {"shape": [1 << 40]}}, "unsupported-layer",
    ),
    "an operation that loops": (
        {"module": "keras.src.ops.core", "class_name": "WhileLoop", "config": {}}, "unsupported-layer",
    ),
    "a class of the user": ({"module": "my_layers", "class_name": "Swish", "config": {}}, "custom-object"),
    "a registered class": (
        {"module": "builtins", "class_name": "Swish", "config": {}, "registered_name": "mine>Swish"}, "custom-object",
    ),
    "a registered class in the clothes of Keras": (
        {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": "mine>Swish"},
        "custom-object",
    ),
    "a name with a break in it": ({"module": None, "class_name": "a\nb; import os", "config": {}}, "unsafe-model"),
    "no name": ({"module": None, "class_name": 3, "config": {}}, "damaged-model"),
    "a function without a name": ({"module": "builtins", "class_name": "function", "config": {}}, "damaged-model"),
}  # fmt: skip


@pytest.mark.parametrize("what", STRANGERS)
@pytest.mark.parametrize("place", ["a layer", "an argument", "the model"])
def test_what_is_not_on_the_list_is_refused_wherever_it_stands(tmp_path: Path, what: str, place: str) -> None:
    item, code = STRANGERS[what]
    if place == "a layer":
        config = model({**layer(None, "Dense", {"name": "evil"}, "image"), **item, "name": "evil"})
    elif place == "an argument":
        config = model(layer("keras.layers", "Dense", {"name": "evil", "kernel_initializer": item}, "image"))
    else:
        config = {**item, "config": item["config"] if isinstance(item["config"], dict) else {"name": item["config"]}}
        code = "damaged-model" if item["class_name"] == 3 else code
        if item["class_name"] in ("function", "__typespec__"):
            code = "damaged-model" if item["class_name"] == "function" else "unsafe-model"
    assert refusal_code(archive(tmp_path / "a.keras", config), tmp_path) == code


def test_the_remedy_for_a_class_of_the_user_is_named(tmp_path: Path) -> None:
    item, _ = STRANGERS["a class of the user"]
    path = archive(tmp_path / "a.keras", model({**layer(None, "Swish", {"name": "s"}, "image"), **item}))
    assert "--custom-objects my_layers:Swish" in refused(path, tmp_path).hint
    inspect(path, "keras", tmp_path, custom=frozenset({"Swish"}))


def test_operations_on_constants_would_compute_at_once(tmp_path: Path) -> None:
    bomb = layer("keras.src.ops.numpy", "Pad", {"name": "p", "pad_width": 1 << 30}, "image")
    bomb["inbound_nodes"] = [
        {"args": [{"class_name": "__numpy__", "config": {"value": [1], "dtype": "f4"}}], "kwargs": {}}
    ]
    assert refusal_code(archive(tmp_path / "a.keras", model(bomb)), tmp_path) == "unsafe-model"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"class_name": "Functional"}', '{"class_name": 3, "config": {}}', b"\xff"]
)
def test_configurations_that_are_none(tmp_path: Path, text: str | bytes) -> None:
    assert refusal_code(archive(tmp_path / "a.keras", text), tmp_path) == "damaged-model"


@pytest.mark.parametrize("depth", [200, 100_000])
def test_configurations_nested_too_deep(tmp_path: Path, depth: int) -> None:
    text = '{"class_name": "Functional", "config": {"a": ' + "[" * depth + "]" * depth + "}}"
    assert refusal_code(archive(tmp_path / "a.keras", text), tmp_path) in ("unsafe-model", "damaged-model")
