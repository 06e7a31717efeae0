"""The manifest: a strict reader, a deterministic writer."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import SHA, code_of, current, document, good, picture, several

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.manifest import (
    KEYS_SINCE,
    Manifest,
    schema_for,
)
from xxdeploy.runtime.bundle.strict_json import MAX_BYTES
from xxdeploy.runtime.image.preprocess import Preprocess, Sizing


def test_round_trip_is_the_same_text() -> None:
    text = good().to_json()
    assert Manifest.from_json(text) == good()
    assert Manifest.from_json(text.encode()).to_json() == text
    assert text.endswith("}\n")


def test_keys_of_the_document_are_the_fields() -> None:
    fields = {field.name for field in dataclasses.fields(Manifest)}
    since = KEYS_SINCE["Manifest"]
    assert set(document()) == fields - set(since)
    assert set(json.loads(several().to_json())) == fields - {key for key, first in since.items() if first > 2}
    assert set(json.loads(picture().to_json())) == set(json.loads(current().to_json())) == fields
    tensors = set(KEYS_SINCE["Variant"])
    assert set(json.loads(current().to_json())["variants"][0]) - set(document()["variants"][0]) == tensors


def test_several_outputs_survive_the_round_trip() -> None:
    manifest = Manifest.from_json(several().to_json())
    assert manifest == several()
    assert manifest.output_names == ("probabilities", "embedding")
    assert Manifest.from_json(good().to_json()).output_names == ("probabilities",)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("name", "a b", "manifest-value"),
        ("name", "Probabilities", "manifest-duplicate"),
        ("name", "image", "manifest-duplicate"),
        ("task", "segmentation", "manifest-value"),
        ("classes", 3, "manifest-value"),
        ("golden", ["golden/vnni.npy"], "manifest-value"),
        ("golden", ["golden/vnni.npy", "../x"], "manifest-path"),
        ("golden", ["golden/vnni.npy", "golden/else.npy"], "manifest-unlisted"),
        ("golden", "golden/vnni.npy", "manifest-value"),
        ("tolerance", 0.0, "manifest-value"),
        ("labels", None, "manifest-keys"),
    ],
)
def test_each_wrong_output_has_its_error(key: str, value: object, code: str) -> None:
    data = json.loads(several().to_json())
    data["more_outputs"][0][key] = value
    with pytest.raises(BundleError) as caught:
        Manifest.from_json(json.dumps(data))
    assert caught.value.code == code


def test_each_schema_has_its_number_of_outputs() -> None:
    with pytest.raises(BundleError):
        dataclasses.replace(several(), schema=1)
    with pytest.raises(BundleError):
        dataclasses.replace(good(), schema=2)


@pytest.mark.parametrize("outputs", [good, several])
def test_a_new_way_to_resize_has_a_schema_that_older_readers_refuse(outputs: Callable[[], Manifest]) -> None:
    preprocess = Preprocess(8, 8, sizing=Sizing("crop", "bilinear", 1.0))
    with pytest.raises(BundleError, match="resample 'bilinear'"):
        dataclasses.replace(outputs(), preprocess=preprocess)
    manifest = dataclasses.replace(outputs(), schema=3, preprocess=preprocess)
    assert schema_for(preprocess, manifest.more_outputs) == 3
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert json.loads(manifest.to_json())["schema"] == 3
    with pytest.raises(BundleError):
        dataclasses.replace(manifest, preprocess=Preprocess(8, 8))


def test_a_resampling_that_this_version_does_not_know_is_refused_by_name() -> None:
    sizing = Sizing(resample="bilinear")
    data = json.loads(dataclasses.replace(good(), schema=3, preprocess=Preprocess(8, 8, sizing=sizing)).to_json())
    data["preprocess"]["resample"] = "magic"
    with pytest.raises(BundleError, match="not 'magic'"):
        Manifest.from_json(json.dumps(data))


def test_features_have_no_classes_and_no_labels() -> None:
    plain = dataclasses.replace(good(), task="features", classes=0, labels=None, output_name="features")
    assert Manifest.from_json(plain.to_json()) == plain
    with pytest.raises(BundleError):
        dataclasses.replace(plain, classes=3)
    with pytest.raises(BundleError):
        dataclasses.replace(plain, labels="labels.txt")


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        *where, last = path.split("/")
        target: Any = data
        for key in where:
            target = target[int(key) if key.isdigit() else key]
        target[int(last) if last.isdigit() else last] = value

    change.__name__ = f"{path}={value!r}"[:60]
    return change


VALUE, PATH, KEYS, TWICE = "manifest-value", "manifest-path", "manifest-keys", "manifest-duplicate"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("schema", 2), "manifest-keys"),
        (put("schema", 3), "manifest-keys"),
        (put("schema", 4), "manifest-keys"),
        (put("schema", 5), "manifest-keys"),
        (put("schema", 6), "unknown-schema"),
        (put("preprocess/resample", "bilinear"), VALUE),
        (put("preprocess/resize", "pad"), VALUE),
        (put("schema", 0), "unknown-schema"),
        (put("schema", "1"), "unknown-schema"),
        (put("schema", None), "unknown-schema"),
        (put("schema", True), "unknown-schema"),
        (put("schema", 1.0), "unknown-schema"),
        (put("name", "../tiny"), VALUE),
        (put("name", ""), VALUE),
        (put("name", 3), VALUE),
        (put("name", "tiny\x1b[31m"), "manifest-text"),
        (put("task", "detection"), VALUE),
        (put("input_name", ""), VALUE),
        (put("classes", 0), VALUE),
        (put("classes", True), VALUE),
        (put("classes", 10.0), VALUE),
        (put("classes", 10**9), VALUE),
        (put("labels", 3), VALUE),
        (put("labels", "labels.json"), "manifest-unlisted"),
        (put("preprocess", None), VALUE),
        (put("preprocess/mode", "keras"), VALUE),
        (put("preprocess/height", 10**9), VALUE),
        (put("variants", []), VALUE),
        (put("variants", {}), VALUE),
        (put("variants/0", "vnni"), VALUE),
        (put("variants/0/name", "Portable"), TWICE),
        (put("variants/0/precision", "int3"), VALUE),
        (put("variants/0/requires", "vnni"), VALUE),
        (put("variants/0/requires", [1]), VALUE),
        (put("variants/0/requires", ["a b"]), VALUE),
        (put("variants/0/model", "absent.onnx"), "manifest-unlisted"),
        (put("variants/0/extra", 1), KEYS),
        (put("golden/inputs", "absent.npy"), "manifest-unlisted"),
        (put("golden/tolerance", 0), VALUE),
        (put("golden/tolerance", -1e-3), VALUE),
        (put("golden/tolerance", "1"), VALUE),
        (put("golden/tolerance", 10**400), VALUE),
        (put("golden/tolerance", 1.5), None),
        (put("golden/tolerance", 1), None),
        (put("files", {}), VALUE),
        (put("files", []), "manifest-unlisted"),
        (put("files/0/size", -1), VALUE),
        (put("files/0/size", 1.5), VALUE),
        (put("files/0/size", 1 << 63), VALUE),
        (put("files/0/sha256", "0" * 63), VALUE),
        (put("files/0/sha256", "A" * 64), VALUE),
        (put("files/0/sha256", "0" * 64 + "\n"), "manifest-text"),
        (put("files/4/path", "Model.vnni.ONNX"), TWICE),
        (put("files/4/path", "labels.txt"), TWICE),
        (put("files/4/path", "labels.txt/model"), TWICE),
        (put("files/0/path", "/etc/passwd"), PATH),
        (put("files/0/path", "../secret"), PATH),
        (put("files/0/path", "a/../../secret"), PATH),
        (put("files/0/path", "./a"), PATH),
        (put("files/0/path", "a//b"), PATH),
        (put("files/0/path", "a/"), PATH),
        (put("files/0/path", ""), PATH),
        (put("files/0/path", "a\\b"), PATH),
        (put("files/0/path", "C:/a"), PATH),
        (put("files/0/path", "C:a"), PATH),
        (put("files/0/path", "a:stream"), PATH),
        (put("files/0/path", "~/a"), PATH),
        (put("files/0/path", "-rf"), PATH),
        (put("files/0/path", "café"), PATH),
        (put("files/0/path", "cafe\u0301"), PATH),
        (put("files/0/path", "a\x00b"), "manifest-text"),
        (put("files/0/path", "\ud800"), "manifest-text"),
        (put("files/0/path", "a" * 300), PATH),
        (put("files/0/path", "/".join("abcdefghij")), PATH),
        (put("files/0/path", "Manifest.json"), PATH),
        (put("tools", []), VALUE),
        (put("tools/keras", 3), VALUE),
        (put("source", []), VALUE),
        (put("evidence", "x"), VALUE),
        (put("evidence/note", "\x07"), "manifest-text"),
        (put("unknown", 1), KEYS),
        (lambda data: data.pop("golden"), KEYS),
        (lambda data: data["golden"].pop("tolerance"), KEYS),
        (lambda data: data["files"][0].pop("size"), KEYS),
        (lambda data: data["files"].extend(data["files"][:1]), TWICE),
        (lambda data: data["files"].extend({"path": f"x{i}", "sha256": SHA, "size": 0} for i in range(300)), VALUE),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_each_wrong_value_has_its_error(change: Callable[[dict[str, Any]], None], code: str | None) -> None:
    data = document()
    change(data)
    if code is None:
        Manifest.from_json(json.dumps(data))
    else:
        assert code_of(json.dumps(data)) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null and more",
        b"\xff\xfe{}",
        "\ufeff{}",
        '{"schema": NaN}',
        '{"schema": 1e999}',
        '{"schema": -Infinity}',
        '{"schema": 1, "schema": 1}',
        '{"schema": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_not_plain_json(text: str | bytes) -> None:
    assert code_of(text) == "manifest-json"


@pytest.mark.parametrize("text", ["null", "[]", "3", '"x"', "true"])
def test_what_is_no_object(text: str) -> None:
    assert code_of(text) == "manifest-value"


def test_a_huge_manifest_is_not_even_parsed() -> None:
    assert code_of(" " * (MAX_BYTES + 1)) == "manifest-too-large"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object()])
def test_what_json_cannot_say_is_not_written(value: object) -> None:
    with pytest.raises(BundleError) as caught:
        dataclasses.replace(good(), evidence={"x": value}).to_json()  # type: ignore[dict-item]
    assert caught.value.code == "manifest-value"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, derandomize=True)
@given(st.data())
def test_fuzz_no_damage_gives_another_kind_of_error(data: st.DataObject) -> None:
    """Any value anywhere: either a manifest that can be written again, or a BundleError."""
    changed = copy.deepcopy(document())
    target: Any = changed
    for _ in range(data.draw(st.integers(0, 3))):
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        inner = [key for key in keys if isinstance(target[key], dict | list) and target[key]]
        if not inner:
            break
        target = target[data.draw(st.sampled_from(inner))]
    key = data.draw(st.sampled_from(list(target) if isinstance(target, dict) else list(range(len(target)))))
    target[key] = data.draw(JSON)
    try:
        manifest = Manifest.from_json(json.dumps(changed))
    except BundleError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=40), st.integers(0, 2000))
def test_fuzz_bytes(noise: bytes, at: int) -> None:
    text = good().to_json().encode()
    with contextlib.suppress(BundleError):
        Manifest.from_json(text[:at] + noise + text[at + len(noise) :])


def test_the_example_in_the_documents_is_a_manifest() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "bundle-format.md").read_text(encoding="utf-8")
    text = re.sub(r'"([0-9a-f]{8})…"', lambda match: f'"{match[1] * 8}"', page.split("```json")[1].split("```")[0])
    manifest = Manifest.from_json(text)
    assert manifest.name == "mobilenetv2-int8"
    assert all(f"`{field.name}`" in page for field in dataclasses.fields(Manifest))
