"""The bundles of the conformance suite that do not name classes, or do not read one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from conformance_bundles import HEIGHT, WIDTH, Network, Planned, same
from conformance_edits import all_of, set_at, vouched, without
from conformance_refusals import RUN, Fault
from numpy.typing import NDArray

from xxdeploy.runtime.bundle.contents import npy_from_array
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.scaling import named_scaling
from xxdeploy.runtime.image.sizing import Sizing
from xxdeploy.runtime.inputs import ArrayInput, SeveralInputs

SHARES = "0..1"
"""The scaling whose values can stand for probabilities."""
LETTERS = ("a", "b", " ", "ß", "e\u0301", "😀", "ch", "é", "-", "<blank>")
"""The classes of the reader of text; the last one is the blank of CTC, and WIDTH the number of them."""
RANGE = (-3.0, 140.0)
"""Black and white of the output pictures: some values lie outside, and most between two pixels."""
UNITS = 6
"""Of the LSTM."""
RECURRENT = 1e-4
"""Tolerance of the LSTM, whose sigmoid and tanh are those of the engine."""


def tasks() -> Iterator[Planned]:
    """Yield the bundles of other tasks and inputs, in schema 5; four of them in schema 4, too."""
    for plan in _tasks():
        yield plan
        if plan.name in ("image-rgb", "values", "sequence", "several-inputs"):
            yield dataclasses.replace(plan, name=f"schema-4-{plan.name}", old=True)


def _tasks() -> Iterator[Planned]:
    color = Preprocess(HEIGHT, WIDTH, mode="none")
    gray = Preprocess(HEIGHT, WIDTH, 1, mode="none")
    shares = Preprocess(HEIGHT, WIDTH, 1, "custom", scaling=named_scaling(SHARES, 1))
    yield Planned("image-rgb", color, _as(same(color), "image"), output_range=RANGE)
    yield Planned("image-gray", gray, _as(same(gray), "image"), output_range=(RANGE[0], 300.0))
    yield Planned("mask-of-classes", color, _as(same(color), "image", 3), ("floor", "wall", "sky"))
    yield Planned("mask-of-two", shares, _as(same(shares), "image", 2), ("outside", "inside"))
    padded = Preprocess(HEIGHT, WIDTH, sizing=Sizing("pad"))
    yield Planned("values", padded, _as(same(padded), "values"))
    yield Planned("sequence", shares, _reader(), LETTERS, blank=WIDTH - 1)
    yield Planned("lstm", shares, _recurrent(), LETTERS, blank=WIDTH - 1, tolerance=RECURRENT)
    numbers = ArrayInput((2, 3), (-4.0, 4.0))
    yield Planned("array", numbers, _of_array(numbers))
    several = SeveralInputs((("photo", color), ("mask", gray), ("numbers", numbers), ("weight", ArrayInput(()))))
    yield Planned("several-inputs", several, _of_several())


def _as(network: Network, task: str, classes: int = 0) -> Network:
    """Return a network whose one output has another task."""
    return dataclasses.replace(network, outputs=dict.fromkeys(network.outputs, (task, classes)))


def _reader() -> Network:
    """Return the network whose steps are the lines of a gray picture, each a little tilted towards some letters.

    Its classes are the columns. The tilts have equal letters in a row, with and without a blank between them.
    """
    tilt = np.random.default_rng(9).integers(0, 64, (HEIGHT, WIDTH)).astype(np.float32) / 256
    for step, letter in enumerate((3, 3, WIDTH - 1, 3, 5, 5, 2, 6, 4)):
        tilt[step, letter] += 0.5
    text = f"reader (float[n, {HEIGHT}, {WIDTH}, 1] image) => (float[n, {HEIGHT}, {WIDTH}] steps) "
    body = "axis = Constant <value = int64[1] {3}> () lines = Squeeze (image, axis) "
    body += "part = Constant <value = float {0.25}> () less = Mul (lines, part) steps = Add (less, tilt) "
    return Network(f"{text} {{ {body} }}", {"steps": ("sequence", WIDTH)}, arrays={"tilt": tilt})


def _recurrent() -> Network:
    """Return an LSTM over the lines of a gray picture, with a softmax over the classes."""
    random = np.random.default_rng(4)
    arrays: Mapping[str, NDArray[Any]] = {
        "w": random.normal(size=(1, 4 * UNITS, WIDTH)).astype(np.float32),
        "r": (random.normal(size=(1, 4 * UNITS, UNITS)) * 2).astype(np.float32),
        "dense": (random.normal(size=(UNITS, WIDTH)) * 4).astype(np.float32),
    }
    body = "last = Constant <value = int64[1] {3}> () second = Constant <value = int64[1] {1}> () "
    body += "lines = Squeeze (image, last) first = Transpose <perm = [1, 0, 2]> (lines) "
    body += f"all, end, cell = LSTM <hidden_size = {UNITS}> (first, w, r) states = Squeeze (all, second) "
    body += "steps_first = MatMul (states, dense) scores = Transpose <perm = [1, 0, 2]> (steps_first) "
    body += "steps = Softmax <axis = -1> (scores) "
    text = f"reader (float[n, {HEIGHT}, {WIDTH}, 1] image) => (float[n, {HEIGHT}, {WIDTH}] steps) {{ {body} }}"
    return Network(text, {"steps": ("sequence", WIDTH)}, arrays=arrays)


def _of_array(numbers: ArrayInput) -> Network:
    """Return the network that gives an array back."""
    sides = ", ".join(map(str, ("n", *numbers.shape)))
    text = f"same (float[{sides}] image) => (float[{sides}] values) "
    return Network(
        text + "{ one = Constant <value = float {1.0}> () values = Mul (image, one) }", {"values": ("values", 0)}
    )


def _of_several() -> Network:
    """Return the network that gives each input back, the last one with an axis more: an output has two or more."""
    color, gray = (f"float[n, {HEIGHT}, {WIDTH}, {channels}]" for channels in (3, 1))
    inputs = f"{color} photo, {gray} mask, float[n, 2, 3] numbers, float[n] weight"
    outputs = f"{color} same_photo, {gray} same_mask, float[n, 2, 3] same_numbers, float[n, 1] same_weight"
    body = "one = Constant <value = float {1.0}> () axis = Constant <value = int64[1] {1}> () "
    body += "".join(f"same_{name} = Mul ({name}, one) " for name in ("photo", "mask", "numbers"))
    body += "same_weight = Unsqueeze (weight, axis) "
    return Network(
        f"several ({inputs}) => ({outputs}) {{ {body} }}",
        {f"same_{name}": ("values", 0) for name in ("photo", "mask", "numbers", "weight")},
    )


def task_faults() -> Iterator[Fault]:
    """Yield the hostile inputs that are bundles of other tasks, or of other inputs than one picture."""
    image, mask, steps, array, several = "image-rgb", "mask-of-classes", "sequence", "array", "several-inputs"
    second, third = ("more_inputs", 0), ("more_inputs", 1)
    values: dict[str, tuple[str, tuple[str | int, ...], Any]] = {
        "range-missing": (image, ("output_range",), None),
        "range-of-a-mask": (mask, ("output_range",), [0.0, 1.0]),
        "range-of-classes": ("classes", ("output_range",), [0.0, 1.0]),
        "range-exchanged": (image, ("output_range",), [1.0, 0.0]),
        "range-empty": (image, ("output_range",), [1, 1]),
        "range-of-three": (image, ("output_range",), [0, 1, 2]),
        "range-of-text": (image, ("output_range",), ["0", "1"]),
        "range-huge": (image, ("output_range",), [0, 10**400]),
        "mask-of-257": (mask, ("classes",), 257),
        "mask-of-one": (mask, ("classes",), 1),
        "image-with-labels": (image, ("labels",), "golden/inputs.npy"),
        "blank-missing": (steps, ("blank",), None),
        "blank-negative": (steps, ("blank",), -1),
        "blank-no-class": (steps, ("blank",), 10),
        "blank-a-float": (steps, ("blank",), 9.0),
        "blank-true": (steps, ("blank",), True),
        "blank-of-classes": ("classes", ("blank",), 0),
        "sequence-without-labels": (steps, ("labels",), None),
        "sequence-of-one-class": (steps, ("classes",), 1),
        "values-with-classes": ("values", ("classes",), 12),
        "array-with-a-layout": (array, ("variants", 0, "inputs", 0, "layout"), "NHWC"),
        "array-of-uint8": (array, ("variants", 0, "inputs", 0, "dtype"), "uint8"),
        "array-of-another-shape": (array, ("preprocess", "shape"), [3, 2]),
        "array-side-0": (array, ("preprocess", "shape"), [0, 3]),
        "array-side-a-float": (array, ("preprocess", "shape"), [2.0, 3]),
        "array-of-nine-axes": (array, ("preprocess", "shape"), [1] * 9),
        "array-too-large": (array, ("preprocess", "shape"), [1 << 13, (1 << 13) + 1]),
        "array-range-exchanged": (array, ("preprocess", "range"), [1, 0]),
        "array-range-of-one": (array, ("preprocess", "range"), [1]),
        "array-range-true": (array, ("preprocess", "range"), [False, True]),
        "array-range-huge": (array, ("preprocess", "range"), [0, 10**400]),
        "array-without-range": (array, ("preprocess",), {"shape": [2, 3]}),
        "array-and-picture": (array, ("preprocess", "height"), 2),
        "second-input-with-another-name": (several, (*second, "name"), "other"),
        "second-input-of-two-channels": (several, (*second, "preprocess", "channels"), 2),
        "third-input-of-another-shape": (several, (*third, "preprocess", "shape"), [6]),
        "an-input-too-few": (several, third[:1], []),
    }
    for name, (base, path, value) in values.items():
        yield Fault(name, "manifest-value", set_at(*path, value=value), base)
    old = ("schemas-1-to-4",)
    yield Fault("schema-4-of-schema-1", "manifest-keys", set_at("schema", value=4), "schema-1", needs=old)
    yield Fault("schema-3-of-schema-4", "manifest-keys", set_at("schema", value=3), "schema-4-values", needs=old)
    edits = set_at("task", value="values"), set_at("classes", value=0), set_at("labels", value=None)
    yield Fault("schema-1-with-values", "manifest-value", all_of(*edits), "schema-1", needs=old)
    yield Fault("second-input-without-golden", "manifest-keys", without(*second, "golden"), several)
    yield Fault("second-input-unlisted", "manifest-unlisted", set_at(*second, "golden", value="golden/no.npy"), several)
    yield Fault("second-input-outside", "manifest-path", set_at(*second, "golden", value="../x.npy"), several)
    listed = set_at("variants", 0, "inputs", 2, "name", value="Mask")
    renamed = all_of(set_at(*third, "name", value="Mask"), listed)
    yield Fault("input-twice-in-capitals", "manifest-value", renamed, several)
    needs = (*RUN, "several-inputs")
    goldens: dict[str, NDArray[Any]] = {
        "golden-fewer-of-one-input": np.zeros((1, 2, 3), np.float32),
        "golden-bytes-of-an-array": np.zeros((2, 2, 3), np.uint8),
        "golden-nan-of-an-array": np.full((2, 2, 3), np.nan, np.float32),
    }
    for name, golden in goldens.items():
        edit = vouched("golden/inputs.3.npy", npy_from_array(golden))
        yield Fault(name, "golden-invalid", edit, several, when="selftest", needs=needs)
    other = npy_from_array(np.zeros((2, 12, 10), np.float32))
    edit = vouched("golden/outputs.npy", other)
    yield Fault("golden-other-steps", "golden-mismatch", edit, steps, when="selftest", needs=RUN)
    edit = vouched("golden/outputs.3.npy", npy_from_array(np.zeros((2, 2, 3), np.float32)))
    yield Fault("golden-other-third-output", "golden-mismatch", edit, several, when="selftest", needs=needs)
