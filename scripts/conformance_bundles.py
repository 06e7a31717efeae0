"""The bundles of the conformance suite: tiny networks, one bundle for each way to prepare a picture.

Most networks return their input unchanged, so the output shows the exact values that a runtime fed to the engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
from numpy.typing import NDArray

from xxdeploy.bundle.pack import Disk, golden_inputs, pack
from xxdeploy.onnxmodel.model import OnnxModel, tensors_of
from xxdeploy.runtime.bundle.contents import npy_from_array, text_from_labels
from xxdeploy.runtime.bundle.manifest import SCHEMA, GoldenSpec, Manifest, MoreInput, MoreOutput, Variant, schema_for
from xxdeploy.runtime.bundle.tensors import NHWC, InputTensor, OutputTensor
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.session import TensorInfo, batch_for
from xxdeploy.runtime.image.grid import PixelGrid
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.resample import FRACTIONAL, RESAMPLES
from xxdeploy.runtime.image.scaling import NAMED, named_scaling
from xxdeploy.runtime.image.sizing import Sizing
from xxdeploy.runtime.inputs import InputForm, SeveralInputs, parts_of, shape_of, unpack

HEIGHT, WIDTH = 12, 10
GEOMETRIES = {
    "squash": {"resize": "squash"},
    "crop": {"resize": "crop"},
    "crop-1": {"resize": "crop", "crop_fraction": 1.0},
    "crop-half": {"resize": "crop", "crop_fraction": 0.5},
    "fit": {"resize": "fit"},
    "pad": {"resize": "pad"},
    "pad-color": {"resize": "pad", "pad_color": (9, 250, 128)},
}
"""Every value of ``resize`` and of the keys that belong to it, by the name in the suite."""
IMAGE = "image"
"""The name of a network's only input."""
SAME, LITERT = "same", "litert"
"""The variants of a runtime that knows no feature of its processor: an ONNX file, and a LiteRT file."""
WITH_LITERT = (
    "squash-bilinear", "pad-bilinear-antialias", "crop-nearest", "torch-rgb", "caffe-rgb", "pad-color-gray",
    "classes", "classes-100", "classes-without-labels", "several-outputs", "image-rgb", "mask-of-classes", "values",
    "sequence",
)  # fmt: skip
"""The bundles that carry a LiteRT file, too."""
EXACT = 1e-6
"""Tolerance of networks that return their input."""
LABELS = (*(f"class {index}" for index in range(8)), "crane", "crane", "Blåbær 蓝莓", ' a, "b"')


@dataclass(frozen=True, slots=True)
class Network:
    """An ONNX graph in text, with the names of its outputs and the metadata that a runtime reads.

    ``arrays`` are its initializers, ``outputs`` maps the names to (task, classes), the first one to predict with.
    """

    text: str
    outputs: Mapping[str, tuple[str, int]]
    notes: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the serialized model."""
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {self.text}')
        for name, array in self.arrays.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        onnx.helper.set_model_props(model, dict(self.notes))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True)
class Planned:
    """A bundle before it is written: its name, preprocessing, network, and the labels of its classes.

    ``integers`` is the network with its input in a Q/DQ pair, for a LiteRT file that reads uint8. ``old`` writes the
    bundle in the lowest schema that can say it, not in the newest. ``tolerance`` is that of the outputs.
    """

    name: str
    preprocess: InputForm
    network: Network
    labels: tuple[str, ...] | None = None
    requires: Sequence[tuple[str, ...]] = ((),)
    integers: Network | None = None
    old: bool = False
    output_range: tuple[float, float] | None = None
    blank: int | None = None
    tolerance: float = EXACT

    @property
    def picture(self) -> Preprocess | None:
        """How the one picture that the network reads is prepared; None for other inputs."""
        return self.preprocess if isinstance(self.preprocess, Preprocess) else None

    @property
    def has_litert(self) -> bool:
        """Whether the bundle has a variant ``litert``."""
        return not self.old and (self.integers is not None or self.name in WITH_LITERT)

    def write(self, out: Path) -> Path:
        """Write the bundle to the folder ``out``; its golden outputs are those of ONNX Runtime."""
        model = self.network.to_bytes()
        form = self.preprocess
        samples = golden_inputs(2, form)
        session = OrtSession(model, threads=1)
        golden = session.run_all(batch_for(session, form, samples))
        parts = {"model.onnx": model}
        (input_name, first), *others = ((name or IMAGE, part) for name, part in parts_of(form))
        arrays = form.apart(samples) if isinstance(form, SeveralInputs) else [samples]
        for index, array in enumerate(arrays):
            parts[_golden("inputs", index)] = npy_from_array(array)
        names = list(self.network.outputs)
        for index, name in enumerate(names):
            parts[_golden("outputs", index)] = npy_from_array(golden[name])
        if self.labels is not None:
            parts["labels.txt"] = text_from_labels(self.labels, characters=self.blank is not None)
        task, classes = self.network.outputs[names[0]]
        variants = tuple(self._variants(parts))
        more = tuple(
            MoreOutput(name, *self.network.outputs[name], (_golden("outputs", index),) * len(variants), self.tolerance)
            for index, name in enumerate(names)
            if index
        )
        manifest = Manifest(
            schema=schema_for(form, more, task) if self.old else SCHEMA,
            name=self.name,
            task=task,
            input_name=input_name,
            output_name=names[0],
            preprocess=first,
            classes=classes,
            labels=None if self.labels is None else "labels.txt",
            variants=variants,
            golden=GoldenSpec(_golden("inputs", 0), self.tolerance),
            files=(),
            tools={"conformance": "1"},
            source={"model": "conformance"},
            evidence={},
            more_outputs=more,
            output_range=self.output_range,
            blank=self.blank,
            more_inputs=tuple(
                MoreInput(name, part, _golden("inputs", index)) for index, (name, part) in enumerate(others, 1)
            ),
        )
        return pack(manifest, parts, out, force=True, disk=Disk(write=lambda path, data: void(path.write_bytes(data))))

    def _variants(self, parts: dict[str, bytes]) -> Iterator[Variant]:
        """Yield the variants, and add the LiteRT file to ``parts`` where there is one."""
        model = OnnxModel(parts["model.onnx"])
        tensors = () if self.old else self._tensors(*tensors_of(model))
        for words in self.requires:
            name = f"for-{words[0]}" if words else SAME
            yield Variant(name, "model.onnx", "fp32", "float32", _golden("outputs", 0), words, *tensors)
        if self.has_litert:
            from xxdeploy.lowering.litert.flat import tensors_in
            from xxdeploy.lowering.litert.write import to_litert

            source = model if self.integers is None else OnnxModel(self.integers.to_bytes())
            parts["model.tflite"] = to_litert(source, None if self.integers is None else PixelGrid(1.0, 0.0))
            tensors = self._tensors(*tensors_in(parts["model.tflite"]))
            yield Variant(LITERT, "model.tflite", "fp32", "float32", _golden("outputs", 0), (LITERT,), *tensors)

    def _tensors(
        self, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
    ) -> tuple[tuple[InputTensor, ...], tuple[OutputTensor, ...]]:
        layouts = [NHWC if isinstance(part, Preprocess) else None for _, part in parts_of(self.preprocess)]
        told = (InputTensor(*tensor, layout=layout) for tensor, layout in zip(inputs, layouts, strict=True))
        return tuple(told), tuple(OutputTensor(*tensor) for tensor in outputs)


def feeds_of(form: InputForm, batch: NDArray[Any]) -> list[NDArray[Any]]:
    """Return what each input of the model file gets, of a batch as ``batch_for`` returns it."""
    return unpack(batch, [shape_of(part) for _, part in form.parts]) if isinstance(form, SeveralInputs) else [batch]


def void(_: object) -> None:
    """Return None."""


def _golden(kind: str, index: int) -> str:
    return f"golden/{kind}{f'.{index + 1}' if index else ''}.npy"


def same(form: Preprocess, *, pixels: bool = False) -> Network:
    """Return the network that gives its input back: float32, or with ``pixels`` the uint8 of the picture as float32."""
    sides = f"n, {form.height}, {form.width}, {form.channels}"
    kind, body = ("uint8", "features = Cast <to = 1> (image)") if pixels else ("float", "features = Mul (image, one)")
    one = "one = Constant <value = float {1.0}> ()"
    text = f"same ({kind}[{sides}] image) => (float[{sides}] features) {{ {'' if pixels else one} {body} }}"
    notes = {}
    if pixels and form.grid is not None:
        step, center = form.grid
        notes = {"xxdeploy.pixels": json.dumps({"step": step, "centre": center})}
    return Network(text, {"features": ("features", 0)}, notes)


def pair(form: Preprocess) -> Network:
    """Return the network that gives pixels of 0..255 back after a Q/DQ pair, float32, for a LiteRT file of uint8."""
    sides = f"n, {form.height}, {form.width}, {form.channels}"
    body = "step = Constant <value = float {1.0}> () zero = Constant <value = uint8 {0}> () "
    body += "integers = QuantizeLinear (image, step, zero) features = DequantizeLinear (integers, step, zero)"
    text = f"pair (float[{sides}] image) => (float[{sides}] features) {{ {body} }}"
    return Network(text, {"features": ("features", 0)})


def classifier(form: Preprocess, classes: int, *, listed: int | None = None, more: bool = False) -> Network:
    """Return average pool, Gemm, Clip: scores of 0..1, several of them exactly 0 or 1, so that ties are certain.

    With ``listed`` the model returns that many of its best classes; with ``more`` the pooled features, too.
    """
    random = np.random.default_rng(classes)
    weight = np.round(random.normal(size=(3, classes)) * 64).astype(np.float32) / 16
    body = "nchw = Transpose <perm = [0, 3, 1, 2]> (image) pool = GlobalAveragePool (nchw) axes = Constant "
    body += "<value = int64[2] {2, 3}> () pooled = Squeeze (pool, axes) scores = Gemm (pooled, weight) "
    body += "low = Constant <value = float {0.0}> () high = Constant <value = float {1.0}> () "
    clipped = "clipped" if listed else "probabilities"
    body += f"{clipped} = Clip (scores, low, high) "
    outputs, written, notes = {"probabilities": ("classification", classes)}, f"float[n, {classes}] probabilities", {}
    if listed:
        body += f"k = Constant <value = int64[1] {{{listed}}}> () "
        body += "probabilities, probabilities_classes = TopK <axis = -1> (clipped, k) "
        written = f"float[n, {listed}] probabilities, int64[n, {listed}] probabilities_classes"
        notes = {"xxdeploy.top_k": f'{{"classes": {classes}}}'}
    if more:
        outputs["pooled"] = ("features", 0)
        written += ", float[n, 3] pooled"
    text = f"net (float[n, {form.height}, {form.width}, 3] image) => ({written}) {{ {body} }}"
    return Network(text, outputs, notes, {"weight": weight})


def planned() -> Iterator[Planned]:
    """Yield every good bundle of the suite."""
    for geometry, keys in GEOMETRIES.items():
        for resample in RESAMPLES:
            if geometry == "fit" and resample in FRACTIONAL:
                continue
            form = Preprocess(HEIGHT, WIDTH, mode="none", sizing=Sizing(resample=resample, **keys))  # type: ignore[arg-type]
            yield Planned(f"{geometry}-{resample}", form, same(form))
    for resample in RESAMPLES:
        form = Preprocess(HEIGHT, WIDTH, mode="tf", sizing=Sizing(resample=resample))
        yield Planned(f"uint8-{resample}", form, same(form, pixels=True))
    form = Preprocess(HEIGHT, WIDTH, mode="none", sizing=Sizing(resample="bilinear"))
    yield Planned("uint8-none", form, same(form, pixels=True), integers=pair(form))
    yield from _scaled()
    for background in ("white", "black"):
        form = Preprocess(HEIGHT, WIDTH, mode="none", background=background)
        yield Planned(f"background-{background}", form, same(form))
    yield from _classifiers()
    from conformance_tasks import tasks

    yield from tasks()


def _scaled() -> Iterator[Planned]:
    """Yield one bundle for each scaling, of three channels and of one."""
    for channels, color in ((3, "rgb"), (1, "gray")):
        for mode in ("tf", "none", *(("caffe", "torch") if channels == 3 else ())):
            form = Preprocess(HEIGHT, WIDTH, channels, mode)
            yield Planned(f"{mode}-{color}", form, same(form))
        for name in NAMED if channels == 3 else NAMED[:1]:
            form = Preprocess(HEIGHT, WIDTH, channels, "custom", scaling=named_scaling(name, channels))
            yield Planned(f"custom-{name.replace('..', '-to-')}-{color}", form, same(form))
    form = Preprocess(HEIGHT, WIDTH, 1, "none", sizing=Sizing("pad", "bilinear", pad_color=(77,)))
    yield Planned("pad-color-gray", form, same(form))
    form = Preprocess(HEIGHT, WIDTH, 1, "tf")
    yield Planned("uint8-gray", form, same(form, pixels=True))


def _classifiers() -> Iterator[Planned]:
    form = Preprocess(HEIGHT, WIDTH)
    yield Planned("classes", form, classifier(form, 12), LABELS)
    yield Planned("classes-without-labels", form, classifier(form, 12))
    many = tuple(f"class {index}" for index in range(100))
    yield Planned("classes-100", form, classifier(form, 100), many)
    yield Planned("top-k", form, classifier(form, 100, listed=4), many)
    yield Planned("several-outputs", form, classifier(form, 12, more=True), LABELS)
    unknown = (("a-feature-that-no-processor-has",), ())
    yield Planned("variants", form, classifier(form, 12), LABELS, unknown)
    yield Planned("schema-1", form, classifier(form, 12), LABELS, old=True)
    yield Planned("schema-2", form, classifier(form, 12, more=True), LABELS, old=True)
    form = Preprocess(HEIGHT, WIDTH, sizing=Sizing("pad"))
    yield Planned("schema-3", form, classifier(form, 12), LABELS, old=True)
