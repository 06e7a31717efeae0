"""The hostile inputs of the conformance suite: a good bundle with one fault each, and the code that must be told.

The codes are written by hand here, from docs/reference/errors.md and docs/reference/bundle-format.md.
``make_conformance.py`` ends with an error if the Python runtime tells another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conformance_edits import (
    Edit,
    all_of,
    as_folder,
    content,
    document_with,
    flipped,
    in_text,
    linked,
    removed,
    replaced,
    set_at,
    sized,
    vouched,
    without,
)

from xxdeploy.runtime.bundle.contents import npy_from_array

TOO_LARGE = (4 << 20) + 1
"""Bytes of a manifest, one more than a reader accepts."""
_DEEP = 20_000
RUN = ("onnx",)
"""An entry that loads a model needs this."""
LITERT = ("litert",)


@dataclass(frozen=True, slots=True)
class Fault:
    """How a copy of a good bundle is spoiled.

    ``when``: ``load`` must refuse it, or with ``selftest`` the golden pairs. ``needs`` holds words of
    docs/reference/conformance.md.
    """

    name: str
    code: str
    edit: Edit
    base: str = "classes"
    when: str = "load"
    needs: tuple[str, ...] = ()

    @property
    def reads_files(self) -> bool:
        """Whether a reader comes to the other files at all before it refuses the bundle."""
        return not self.code.startswith("manifest-") and self.code not in ("unknown-schema", "not-a-bundle")


def _twice(bundle: Path) -> None:
    document_with(lambda document: document["files"].append(document["files"][0]))(bundle)


def _other_case(bundle: Path) -> None:
    document_with(lambda document: document["files"].append({**document["files"][0], "path": "GOLDEN/Inputs.npy"}))(
        bundle
    )


def _file_as_folder(bundle: Path) -> None:
    document_with(lambda document: document["files"].append({**document["files"][0], "path": "labels.txt/more"}))(
        bundle
    )


def _many_files(bundle: Path) -> None:
    def change(document: Any) -> None:
        document["files"] += [{**document["files"][0], "path": f"more/{index}.npy"} for index in range(256)]

    document_with(change)(bundle)


def _unlisted(bundle: Path) -> None:
    def change(document: Any) -> None:
        document["files"] = [entry for entry in document["files"] if entry["path"] != "model.onnx"]

    document_with(change)(bundle)


def faults() -> Iterator[Fault]:
    """Yield every hostile input that needs no signature."""
    yield from _of_the_text()
    yield from _of_values()
    yield from _of_tensors()
    yield from _of_paths()
    yield from _of_files()


def _of_the_text() -> Iterator[Fault]:
    manifest = "manifest.json"
    yield Fault("no-manifest", "not-a-bundle", removed(manifest))
    yield Fault("empty", "manifest-json", content(manifest, b""))
    yield Fault("no-json", "manifest-json", content(manifest, b"\x89PNG\r\n\x1a\n"))
    yield Fault("no-object", "manifest-value", content(manifest, b"[]"))
    yield Fault("cut-short", "manifest-json", content(manifest, lambda data: data[: len(data) // 2]))
    yield Fault("text-after-the-end", "manifest-json", content(manifest, lambda data: data + b"{}"))
    yield Fault("no-utf-8", "manifest-json", content(manifest, lambda data: data.replace(b"classes", b"class\xff", 1)))
    yield Fault("overlong-utf-8", "manifest-json", content(manifest, lambda data: data.replace(b"tf", b"\xc1\xb4", 1)))
    yield Fault("key-twice", "manifest-json", in_text('"classes":', '"classes": 12, "classes":'))
    yield Fault("key-twice-in-evidence", "manifest-json", in_text('"evidence": {', '"evidence": {"a": 1, "a": 1'))
    yield Fault("nan", "manifest-json", in_text('"tolerance": 1e-06', '"tolerance": NaN'))
    yield Fault("infinity", "manifest-json", in_text('"tolerance": 1e-06', '"tolerance": Infinity'))
    yield Fault("infinite-number", "manifest-json", in_text('"tolerance": 1e-06', '"tolerance": 1e999'))
    yield Fault("comment", "manifest-json", in_text("{", "{ // a comment\n"))
    yield Fault("comma-at-the-end", "manifest-json", in_text('"evidence": {}', '"evidence": {"a": 1,}'))
    yield Fault("plus-sign", "manifest-json", in_text('"classes": 12', '"classes": +12'))
    yield Fault("zero-first", "manifest-json", in_text('"classes": 12', '"classes": 012'))
    yield Fault("single-quotes", "manifest-json", in_text('"evidence"', "'evidence'"))
    yield Fault(
        "deep-nesting", "manifest-json", in_text('"evidence": {', f'"evidence": {{"a": {"[" * _DEEP}{"]" * _DEEP}')
    )
    yield Fault("control-character", "manifest-text", in_text('"evidence": {', '"evidence": {"a": "\\u0007"'))
    yield Fault("control-character-in-a-key", "manifest-text", in_text('"evidence": {', '"evidence": {"\\u009b": 1'))
    yield Fault("lone-surrogate", "manifest-text", in_text('"evidence": {', '"evidence": {"a": "\\ud800"'))
    yield Fault("raw-control-character", "manifest-json", in_text('"evidence": {', '"evidence": {"a": "\x07"'))
    yield Fault("too-large", "manifest-too-large", sized(manifest, TOO_LARGE))


def _of_values() -> Iterator[Fault]:
    schemas: dict[str, Any] = {
        "0": 0,
        "99": 99,
        "text": "1",
        "null": None,
        "huge": 10**400,
        "a-float": 5.0,
        "true": True,
    }
    for name, schema in schemas.items():
        yield Fault(f"schema-{name}", "unknown-schema", set_at("schema", value=schema))
    yield Fault("schema-missing", "unknown-schema", without("schema"))
    yield Fault("key-missing", "manifest-keys", without("classes"))
    yield Fault("key-unknown", "manifest-keys", set_at("color", value="red"))
    yield Fault("variant-key-missing", "manifest-keys", without("variants", 0, "scheme"))
    yield Fault("variant-key-unknown", "manifest-keys", set_at("variants", 0, "url", value="x"))
    yield Fault("file-key-unknown", "manifest-keys", set_at("files", 0, "mode", value=420))
    yield Fault("golden-key-missing", "manifest-keys", without("golden", "tolerance"))
    values: dict[str, tuple[tuple[str | int, ...], Any]] = {
        "name-empty": (("name",), ""),
        "name-with-a-slash": (("name",), "a/b"),
        "name-a-number": (("name",), 7),
        "task-unknown": (("task",), "guess"),
        "task-with-other-classes": (("task",), "features"),
        "classes-none": (("classes",), 0),
        "classes-negative": (("classes",), -1),
        "classes-too-many": (("classes",), 1_000_001),
        "classes-a-fraction": (("classes",), 12.5),
        "classes-a-float": (("classes",), 12.0),
        "classes-true": (("classes",), True),
        "classes-text": (("classes",), "12"),
        "input-name-empty": (("input_name",), ""),
        "variants-none": (("variants",), []),
        "variants-an-object": (("variants",), {}),
        "precision-unknown": (("variants", 0, "precision"), "int4"),
        "requires-text": (("variants", 0, "requires"), "arm"),
        "requires-a-space": (("variants", 0, "requires"), ["arm v8"]),
        "sha256-short": (("files", 0, "sha256"), "00"),
        "sha256-capitals": (("files", 0, "sha256"), "A" * 64),
        "size-negative": (("files", 0, "size"), -1),
        "size-a-fraction": (("files", 0, "size"), 0.5),
        "size-huge": (("files", 0, "size"), 1 << 63),
        "size-more-than-any-number": (("files", 0, "size"), 10**400),
        "tolerance-zero": (("golden", "tolerance"), 0),
        "tolerance-negative": (("golden", "tolerance"), -0.5),
        "tolerance-null": (("golden", "tolerance"), None),
        "tools-a-number": (("tools", "conformance"), 1),
        "evidence-a-list": (("evidence",), []),
        "mode-unknown": (("preprocess", "mode"), "keras"),
        "mode-custom-without-scaling": (("preprocess", "mode"), "custom"),
        "preprocess-key-unknown": (("preprocess", "crop"), 1),
        "channels-2": (("preprocess", "channels"), 2),
        "height-0": (("preprocess", "height"), 0),
        "height-huge": (("preprocess", "height"), 4097),
        "height-a-float": (("preprocess", "height"), 12.0),
        "resize-unknown": (("preprocess", "resize"), "stretch"),
        "resample-unknown": (("preprocess", "resample"), "cubic"),
        "crop-fraction-huge": (("preprocess", "crop_fraction"), 10**400),
        "tolerance-huge": (("golden", "tolerance"), 10**400),
        "crop-fraction-of-squash": (("preprocess", "crop_fraction"), 0.5),
        "pad-color-of-squash": (("preprocess", "pad_color"), [0]),
        "background-unknown": (("preprocess", "background"), "green"),
    }  # fmt: skip
    for name, (path, value) in values.items():
        yield Fault(name, "manifest-value", set_at(*path, value=value))
    yield Fault("gray-caffe", "manifest-value", set_at("preprocess", "mode", value="caffe"), "none-gray")
    scaling = "custom-0-to-1-rgb"
    for name, key, wrong in (
        ("std-zero", "std", [0.0, 1.0, 1.0]),
        ("std-short", "std", [1.0]),
        ("mean-text", "mean", ["0", "0", "0"]),
        ("scale-true", "scale", True),
        ("scale-huge", "scale", 1e7),
        ("mean-more-than-any-number", "mean", [10**400] * 3),
        ("order-unknown", "order", "grb"),
    ):
        yield Fault(f"scaling-{name}", "manifest-value", set_at("preprocess", "scaling", key, value=wrong), scaling)
    yield Fault(
        "crop-fraction-small", "manifest-value", set_at("preprocess", "crop_fraction", value=0.05), "crop-1-area"
    )
    yield Fault("pad-color-256", "manifest-value", set_at("preprocess", "pad_color", value=[256]), "pad-color-area")
    yield Fault("fit-with-area", "manifest-value", set_at("preprocess", "resample", value="area"), "fit-nearest")
    several = "several-outputs"
    named = set_at("more_outputs", 0, "name", value="Probabilities")
    listed = [set_at("variants", index, "outputs", 1, "name", value="Probabilities") for index in range(2)]
    yield Fault("output-twice-in-capitals", "manifest-duplicate", all_of(named, *listed), several)
    listed = [set_at("variants", index, "outputs", 0, "name", value="image") for index in range(2)]
    yield Fault("output-is-the-input", "manifest-duplicate", all_of(set_at("output_name", value="image"), *listed))
    yield Fault("output-without-golden", "manifest-value", set_at("more_outputs", 0, "golden", value=[]), several)


def _of_tensors() -> Iterator[Fault]:
    """Yield wrong lists of the inputs and outputs of a model file."""
    first, one, out = ("variants", 0), ("variants", 0, "inputs", 0), ("variants", 0, "outputs", 0)
    yield Fault("inputs-missing", "manifest-keys", without(*first, "inputs"))
    yield Fault("input-key-missing", "manifest-keys", without(*one, "layout"))
    yield Fault("output-key-unknown", "manifest-keys", set_at(*out, "layout", value=None))
    values: dict[str, tuple[tuple[str | int, ...], Any]] = {
        "inputs-none": ((*first, "inputs"), []),
        "outputs-none": ((*first, "outputs"), []),
        "input-name-other": ((*one, "name"), "pixels"),
        "input-name-none": ((*one, "name"), ""),
        "input-dtype-unknown": ((*one, "dtype"), "float16"),
        "input-dtype-of-an-output": ((*one, "dtype"), "int8"),
        "input-layout-unknown": ((*one, "layout"), "NCHW"),
        "input-layout-none": ((*one, "layout"), None),
        "input-shape-empty": ((*one, "shape"), []),
        "input-shape-text": ((*one, "shape"), [None, "12", 10, 3]),
        "input-shape-zero": ((*one, "shape"), [0, 12, 10, 3]),
        "input-shape-huge": ((*one, "shape"), [1 << 31, 12, 10, 3]),
        "input-shape-a-float": ((*one, "shape"), [None, 12.0, 10, 3]),
        "input-shape-of-another-size": ((*one, "shape"), [None, 10, 12, 3]),
        "output-dtype-unknown": ((*out, "dtype"), "bool"),
        "output-name-of-another": ((*out, "name"), "scores"),
        "output-shape-of-ten-axes": ((*out, "shape"), [1] * 10),
    }
    for name, (path, value) in values.items():
        yield Fault(name, "manifest-value", set_at(*path, value=value))
    untrue: dict[str, tuple[tuple[str | int, ...], Any]] = {
        "untrue-input-dtype": ((*one, "dtype"), "uint8"),
        "untrue-batch": ((*one, "shape"), [1, 12, 10, 3]),
        "untrue-output-dtype": ((*out, "dtype"), "int8"),
        "untrue-output-shape": ((*out, "shape"), [None, 13]),
        "untrue-output-axes": ((*out, "shape"), [None, 12, 1]),
    }
    for name, (path, value) in untrue.items():
        yield Fault(name, "bundle-signature", set_at(*path, value=value), needs=RUN)


def _of_paths() -> Iterator[Fault]:
    paths = {
        "parent": "../labels.txt",
        "parent-inside": "golden/../labels.txt",
        "absolute": "/etc/passwd",
        "drive": "C:/labels.txt",
        "backslash": "golden\\inputs.npy",
        "double-slash": "golden//inputs.npy",
        "slash-at-the-end": "labels.txt/",
        "dot": "./labels.txt",
        "hidden": ".labels.txt",
        "dash": "-labels.txt",
        "stream": "labels.txt:hidden",
        "space": "my labels.txt",
        "accent": "label\u00e9.txt",
        "empty": "",
        "long": "a" * 201,
        "deep": "/".join("abcdefghi"),
        "manifest": "manifest.json",
        "manifest-in-capitals": "MANIFEST.JSON",
        "signature": "manifest.sig",
    }
    for name, path in paths.items():
        yield Fault(f"path-{name}", "manifest-path", set_at("files", 0, "path", value=path))
    yield Fault("labels-parent", "manifest-path", set_at("labels", value="../labels.txt"))
    yield Fault("file-twice", "manifest-duplicate", _twice)
    yield Fault("file-twice-in-capitals", "manifest-duplicate", _other_case)
    yield Fault("file-is-a-folder", "manifest-duplicate", _file_as_folder)
    yield Fault("files-too-many", "manifest-value", _many_files)
    yield Fault("model-unlisted", "manifest-unlisted", _unlisted)
    yield Fault("labels-unlisted", "manifest-unlisted", set_at("labels", value="names.txt"))


def _of_files() -> Iterator[Fault]:
    for name in ("model.onnx", "labels.txt", "golden/inputs.npy", "golden/outputs.npy"):
        short = name.replace("/", "-")
        yield Fault(f"changed-{short}", "file-hash", content(name, flipped))
        yield Fault(f"missing-{short}", "file-missing", removed(name))
        yield Fault(f"cut-{short}", "file-size", content(name, lambda data: data[:-1]))
        yield Fault(f"grown-{short}", "file-size", content(name, lambda data: data + b"\n"))
    yield Fault("model-empty", "file-size", content("model.onnx", b""))
    yield Fault("folder-for-a-file", "file-not-regular", as_folder("model.onnx"), needs=("links",))
    yield Fault(
        "link-outside", "file-outside", linked("model.onnx", "../../bundles/classes/model.onnx"), needs=("links",)
    )
    yield Fault("link-to-a-device", "file-outside", linked("model.onnx", "/dev/zero"), needs=("links",))
    yield Fault("link-to-nothing", "file-missing", linked("model.onnx", "absent"), needs=("links",))
    yield Fault("link-to-itself", "file-missing", linked("model.onnx", "model.onnx"), needs=("links",))
    yield Fault("model-no-model", "engine-load", vouched("model.onnx", b"not a model"), needs=RUN)
    tflite, another = "model.tflite", Path("../../bundles/torch-rgb/model.tflite")
    for name, data in {"no-model": b"not a model", "empty": b"", "zeros": bytes(64)}.items():
        yield Fault(f"litert-{name}", "engine-load", vouched(tflite, data), needs=LITERT)
    yield Fault("litert-cut", "engine-load", vouched(tflite, lambda data: data[: len(data) // 2]), needs=LITERT)
    yield Fault("litert-short", "engine-load", vouched(tflite, lambda data: data[:-4]), needs=LITERT)
    yield Fault("litert-of-another-bundle", "bundle-signature", replaced(tflite, another), needs=LITERT)
    labels = "labels.txt"
    yield Fault("labels-short", "labels-invalid", vouched(labels, b"one\ntwo\n"))
    yield Fault("labels-empty", "labels-invalid", vouched(labels, b""))
    yield Fault("labels-empty-line", "labels-invalid", vouched(labels, lambda data: data.replace(b"class 3", b" ", 1)))
    yield Fault("labels-no-utf-8", "labels-invalid", vouched(labels, lambda data: data.replace(b"3", b"\xff", 1)))
    yield Fault("labels-escape", "labels-invalid", vouched(labels, lambda data: data.replace(b"3", b"\x1b[2J", 1)))
    yield Fault("labels-long", "labels-invalid", vouched(labels, lambda data: data.replace(b"3", b"3" * 1001, 1)))
    inputs, outputs = "golden/inputs.npy", "golden/outputs.npy"
    wrong = npy_from_array(np.full((2, 12), 0.5, np.float32))
    yield Fault("golden-other-values", "golden-mismatch", vouched(outputs, wrong), when="selftest", needs=RUN)
    nan = npy_from_array(np.full((2, 12), np.nan, np.float32))
    yield Fault("golden-nan", "golden-invalid", vouched(outputs, nan), when="selftest", needs=RUN)
    wide = npy_from_array(np.zeros((2, 13), np.float32))
    yield Fault("golden-wide", "golden-invalid", vouched(outputs, wide), when="selftest", needs=RUN)
    none = npy_from_array(np.zeros((0, 12, 10, 3), np.uint8))
    yield Fault("golden-no-images", "golden-invalid", vouched(inputs, none), when="selftest", needs=RUN)
    other = npy_from_array(np.zeros((2, 10, 12, 3), np.uint8))
    yield Fault("golden-other-size", "golden-invalid", vouched(inputs, other), when="selftest", needs=RUN)
    yield Fault("golden-no-npy", "array-invalid", vouched(inputs, b"PK\x03\x04"), when="selftest", needs=RUN)
    cut = npy_from_array(np.zeros((2, 12), np.float32))[:-4]
    yield Fault("golden-short", "array-invalid", vouched(outputs, cut), when="selftest", needs=RUN)
    huge = npy_from_array(np.zeros((2, 12), np.float32)).replace(b"(2, 12)", b"(99999999999999999999, 12)", 1)
    yield Fault("golden-huge-shape", "array-invalid", vouched(outputs, huge), when="selftest", needs=RUN)
    doubles = npy_from_array(np.zeros((2, 12), np.float32)).replace(b"<f4", b"<f8", 1)
    yield Fault("golden-float64", "array-invalid", vouched(outputs, doubles), when="selftest", needs=RUN)
    pickled = npy_from_array(np.zeros((2, 12), np.float32)).replace(b"'<f4'", b"'|O' ", 1)
    yield Fault("golden-objects", "array-invalid", vouched(outputs, pickled), when="selftest", needs=RUN)
