"""The groups of options of an export: each option is declared once, with its help and its scope.

The command line, the TOML file and the jobs of a batch, the refusals and the command in the report are derived from
these fields, their types and their scopes. Only light modules are imported: the command line reads this one on devices
that have no exporter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from xxdeploy.errors import UsageError
from xxdeploy.exporter.option_fields import INT8, ROUNDED, check_choice, option, range_of
from xxdeploy.models.samples import CALIBRATION_SETS

if TYPE_CHECKING:
    from xxdeploy.engine import EngineOptions

Resample = Literal[
    "nearest", "bilinear", "bilinear-antialias", "bicubic", "bicubic-antialias", "lanczos", "lanczos-antialias", "area"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """The network, its weights, its input and its outputs.

    ``UsageError`` ``unknown-task``, ``ctc-blank``, ``output-range``, ``class-order``, ``unknown-resize``,
    ``unknown-resample``, ``unknown-background``.
    """

    weights: str = option(
        "imagenet",
        "imagenet (the default, which Keras downloads once), sample (ships with xxdeploy), none (random, drawn from "
        "--seed), or an .h5 file. With an architecture (MODEL.json): its file of weights.",
        suffixes=(".h5", ".keras"),
    )
    alpha: float | None = option(None, "Width multiplier of MobileNet and MobileNetV2.", source="catalog")
    input_size: int | None = option(None, "Height and width of the input, in pixels.")
    classes: int | None = option(None, "Number of classes of the classifier.", source="catalog")
    no_top: bool = option(False, "Leave out the classifier: the bundle is a feature extractor.", source="catalog")
    pooling: Literal["avg", "max"] | None = option(None, "With --no-top: pool the features.", source="catalog")
    labels: Path | None = option(None, "Class names in the order of the outputs: one a line, or JSON (class_indices).")
    class_order: Literal["text", "numeric"] | None = option(
        None,
        "Order of class folders that are numbered: text (the default: 0, 1, 10, 2, as Keras' loaders sort) or numeric.",
    )
    preprocess: str | None = option(
        None,
        "How pixels are scaled: tf, caffe, torch, none, 0..1, or a file with mean and std. By default as the network "
        "was trained, or none if the model file scales. auto: the scaling that best fits the pictures of --eval.",
        suffixes=(".toml", ".json"),
    )
    resize: Literal["squash", "crop", "fit", "pad"] | None = option(
        None,
        "squash (the default) ignores the aspect ratio; crop cuts out the middle in whole pixels, fit as Pillow's "
        "ImageOps.fit; pad puts the whole picture on a background.",
    )
    resample: Resample | None = option(
        None,
        "The filter that resizes pictures, as in training: bilinear for tf.image.resize and "
        "image_dataset_from_directory, nearest for load_img, bilinear-antialias (the default) for Pillow.",
    )
    crop_fraction: float | None = option(
        None,
        "With --resize crop: the share of the short side that is kept, 0.875 by default. 1 is crop_to_aspect_ratio of "
        "Keras.",
    )
    pad_color: str | None = option(None, "With --resize pad: one number of 0 to 255, or R,G,B. Black by default.")
    background: Literal["drop", "white", "black"] | None = option(
        None, "The color under transparent pictures; drop (the default) drops their alpha, as Keras does."
    )
    output_layer: str | None = option(
        None, "Model files only: the layer whose output becomes the model's output.", source="file"
    )
    task: Literal["classification", "features", "image", "values", "sequence"] | None = option(
        None,
        "Model files only. image: the output is a picture, or a mask with a class for each pixel; values: numbers, "
        "such as key points; sequence: a text, one class for each step, with --labels and --ctc-blank. By default "
        "classification or features, by the last layers; a last layer with weights and no activation counts as class "
        "logits.",
        source="file",
    )
    ctc_blank: Literal["last", "first"] | None = option(
        None, "With --task sequence: which class is CTC's blank; the last one in keras.io's examples.",
        source="file",
    )  # fmt: skip
    transpose: bool = option(
        False,
        "Model files only: the model takes pictures with rows and columns exchanged, as in keras.io's captcha example.",
        source="file",
    )
    output_range: str | None = option(
        None,
        "With --task image: the values of black and white in the output (0..1, 0..255, or with an equals sign "
        "--output-range=-1..1), or classes for a mask. By default it follows from the last activation.",
        source="file",
    )
    signature: str | None = option(
        None,
        "SavedModel folders only: the signature to export. By default serving_default, or the only one.",
        source="file",
    )
    architecture: Path | None = option(None, "Files of weights only: the JSON of model.to_json().", source="file")
    custom_objects: tuple[str, ...] = option(
        (),
        "Model files only: a layer or function of your own that the model uses, as module:name.",
        source="file",
        in_file=False,
    )
    inference_mode: bool = option(
        False,
        "Model files only: where the model calls a layer with training=True, export it with training=False.",
        source="file",
    )
    scale_twice: bool = option(
        False, "Model files only: apply --preprocess although the model scales pixels itself.", source="file"
    )
    unsafe_lambda: bool = option(
        False,
        "Model files only: run the Python code of its Lambda layers. The code gets all permissions that you have.",
        source="file",
        in_file=False,
    )

    def __post_init__(self) -> None:
        check_choice(self, "task", code="unknown-task")
        check_choice(self, "ctc_blank", code="ctc-blank")
        if self.output_range is not None:
            range_of(self.output_range)
        check_choice(self, "class_order", code="class-order")
        check_choice(self, "resize", code="unknown-resize")
        check_choice(self, "background", code="unknown-background")
        check_choice(self, "resample", code="unknown-resample")


@dataclass(frozen=True, slots=True)
class PrecisionOptions:
    """FP32, FP16 or INT8, and how the values are rounded.

    ``UsageError`` ``unknown-cpu``, ``unknown-effort``, ``ranges-given``.
    """

    int8: bool = option(False, "Quantize to 8-bit integers, calibrated on images.", in_file=False)
    fp16: bool = option(
        False,
        "Convert to FP16. Layers that overflow FP16 stay FP32; with --calibration, activations are checked, too.",
        in_file=False,
    )
    calibration: Path | None = option(
        None,
        "Folder of images like those that the device will see (no labels needed), a calibration set (.toml), or "
        "photos: crops of photographs that ship, the default for ImageNet weights.",
        names=CALIBRATION_SETS, precisions=ROUNDED, ignored=True,
    )  # fmt: skip
    samples: int | None = option(
        None,
        "Number of calibration images. By default that of the calibration set, else at most 300. Other images of the "
        "folder judge the quantized model, or a quarter of these if there are too few others.",
        precisions=ROUNDED,
        ignored=True,
    )
    method: str | None = option(
        None,
        "How ranges are chosen: percentile-P (such as percentile-99.99), minmax, moving-average, mse or entropy.",
        precisions=INT8,
        ignored=True,
    )
    seed: int | None = option(None, "Seed that draws the calibration images and random weights.")
    recipe: str | None = option(
        None,
        "Quantization recipe: a file, or the name of one that ships; auto starts the ladder from its first rung.",
        precisions=INT8,
        suffixes=(".toml",),
    )
    effort: Literal["quick", "normal", "thorough"] = option(
        "normal",
        "How many INT8 methods the ladder tries: quick only the first; normal (the default) skips methods whose "
        "expected gain is less than one image; thorough tries all. Each of them continues while a promise is violated.",
        precisions=INT8,
    )
    ranges: Path | None = option(
        None,
        "File of ranges to use instead of measured ones: TensorRT's calibration cache, or a bundle's "
        "calibration.json. Calibration images then only correct biases and judge the result.",
        precisions=INT8,
    )
    cpu: Literal["vnni", "avx2", "arm"] | None = option(
        None, "Export for one kind of processor. By default the bundle serves all.", precisions=INT8, target="cpu"
    )
    keep_fp32: bool = option(
        False,
        "Also put the FP32 model into the bundle: `xxdeploy tune` chooses it where INT8 is not faster.",
        precisions=INT8,
    )

    def __post_init__(self) -> None:
        check_choice(self, "cpu", code="unknown-cpu")
        check_choice(self, "effort", code="unknown-effort")
        if self.ranges is not None and self.method is not None:
            raise UsageError(
                f"--method {self.method} chooses ranges, and --ranges {self.ranges} contains them",
                hint="leave one of them out",
                code="ranges-given",
            )

    @property
    def name(self) -> str:
        """``fp32``, ``fp16`` or ``int8``."""
        return "int8" if self.int8 else "fp16" if self.fp16 else "fp32"


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What runs the bundle: a processor, LiteRT, or a TensorRT engine that the bundle carries.

    ``UsageError`` ``unknown-target``; those of ``EngineOptions`` and ``parse_batch``.
    """

    target: Literal["cpu", "litert", "web", "tensorrt", "tensorrt-rtx"] = option(
        "cpu",
        "cpu (the default); litert: a .tflite file instead of the ONNX files, for Android, browsers and small devices; "
        "web: the same with a page that runs it, for any static server; tensorrt and tensorrt-rtx (experimental: never "
        "run on a card): an engine with verified precision, and the ONNX file that it was built from, which also runs "
        "on a processor.",
    )
    gpu: str | None = option(
        None,
        "GPUs to build for (tensorrt-rtx): sm75, sm80, sm86, sm89, sm120, sm121. By default the one in this machine.",
        target="gpu",
    )
    engine_files: Path | None = option(
        None,
        "With --target web: the node_modules folder with @litertjs/core, by default the one in the current folder.",
        target="web",
    )
    batch: str | None = option(None, "Smallest, usual and largest batch of the engine; 1,1,8 by default.", target="gpu")

    def __post_init__(self) -> None:
        check_choice(self, "target", code="unknown-target")
        _ = self.engine

    @property
    def only_litert(self) -> bool:
        """Whether the bundle has a LiteRT file and no ONNX file."""
        return self.target in ("litert", "web")

    @property
    def engine(self) -> EngineOptions | None:
        """The engine to build, without its precision; None for processors and LiteRT."""
        if self.target == "cpu" or self.only_litert:
            return None
        from xxdeploy.engine.options import Batch, EngineOptions, parse_batch, parse_gpus

        return EngineOptions(
            target=self.target,
            gpus=() if self.gpu is None else parse_gpus(self.gpu),
            batch=Batch() if self.batch is None else parse_batch(self.batch),
        )


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """Evaluation images and promises. ``UsageError``: as ``verify.promise.check_asked``."""

    evaluation: Path | None = option(
        None,
        "Folder of labeled images: one subfolder a class, or a labels.csv. With --task image or values: any pictures; "
        "with --task sequence: true texts in labels.csv, or as names of folders or files.",
        name="eval",
    )
    max_drop: float | None = option(None, "Promise: fail if top-1 accuracy falls by more points than this.")
    min_agreement: float | None = option(
        None,
        "Promise: fail if the exported model and Keras predict the same class for less than this percentage of the "
        "images. Needs no labels.",
        precisions=ROUNDED,
    )
    min_psnr: float | None = option(
        None, "Promise for pictures: fail if their mean PSNR, compared with Keras', is less than this, in dB."
    )
    min_iou: float | None = option(
        None,
        "Promise for masks: fail if the mean intersection over union with Keras' masks is less than this share (0..1).",
    )
    max_error: float | None = option(
        None,
        "Promise for values: fail if more than 5 % of the values differ from Keras' by more than this, in their unit.",
    )
    strict: bool = option(False, "A promise holds only if the whole 95 % interval of the measured value keeps it.")
    threshold: float | None = option(
        None,
        "Score (0..1) above which your program acts: find the score of the exported model that keeps the decisions.",
        precisions=ROUNDED,
    )

    def __post_init__(self) -> None:
        asked = (self.max_drop, self.min_agreement, self.threshold)
        if self.strict or self.figures or asked != (None, None, None):
            from xxdeploy.verify.promise import check_asked

            check_asked(*asked, self.figures, strict=self.strict)

    @property
    def figures(self) -> dict[str, float]:
        """Return the promises about figures by their option, its dashes written as underscores."""
        asked = {"min_psnr": self.min_psnr, "min_iou": self.min_iou, "max_error": self.max_error}
        return {name: limit for name, limit in asked.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits on the cost of a bundle; None sets none. ``UsageError`` ``limit-invalid``: not a positive number.

    The interpreter, numpy and the inference engine take about 60 MB of ``max_memory_mb``.
    """

    max_latency_ms: float | None = option(
        None,
        "Fail if the median time from a decoded image at input size to its result is longer than this on this machine.",
    )
    max_size_mb: float | None = option(
        None, "Fail if the files of the bundle together are larger than this (MB are 10^6 bytes)."
    )
    max_memory_mb: float | None = option(
        None, "Fail if a fresh Python process that loads the bundle and predicts once takes more memory than this."
    )

    def __post_init__(self) -> None:
        for budget in fields(self):
            limit = getattr(self, budget.name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                message = f"--{budget.name.replace('_', '-')} must be a positive number, not {limit}"
                raise UsageError(message, hint="give a positive number, or leave it out", code="limit-invalid")


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The files that are written."""

    ort_format: bool = option(
        False,
        "Write the model in ONNX Runtime's own format (.ort): it starts faster, and no other engine reads it.",
        target="cpu",
    )
    top_k: int | None = option(
        None,
        "The model itself returns only this many classes, best first: for programs that run it without xxdeploy.",
        target="cpu",
    )
    more: Literal["litert"] | None = option(
        None,
        "Also put a file for another engine into the bundle. litert: a .tflite file with the same integers, for "
        "Android, browsers and small devices.",
        name="with",
        target="cpu",
    )
    card: bool = option(
        False,
        "Add a model card (README.md, as Hugging Face reads it) and preprocessor_config.json for transformers.js.",
    )
    bom: bool = option(False, "Add a bill of materials, bom.cdx.json (CycloneDX 1.6).")
    force: bool = option(
        False, "Replace the output folder if it exists. In a batch, repeat finished jobs.", in_file=False
    )
    pictures: bool = option(
        False, "Show photographs in the report: some calibration images, and images that changed class."
    )

    def __post_init__(self) -> None:
        check_choice(self, "more", code="unknown-engine")
