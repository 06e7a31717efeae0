"""Check the options of a network before any framework is imported."""

from __future__ import annotations

import math

from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, BuildOptions, ModelSpec

WIDTHS = {
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenetv2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "mobilenetv3small": (0.75, 1.0),
    "mobilenetv3small-minimalistic": (1.0,),
    "mobilenetv3large": (0.75, 1.0),
    "mobilenetv3large-minimalistic": (1.0,),
}
_LARGEST = 4096  # pixels a side, as in runtime/image/preprocess.py
SIZES = {
    "mobilenet": (128, 160, 192, 224),
    "mobilenetv2": (96, 128, 160, 192, 224),
    **{name: (224,) for name in WIDTHS if name.startswith("mobilenetv3")},
}
"""Widths and sizes with published ImageNet weights (keras.applications.mobilenet, mobilenet_v2, mobilenet_v3)."""


def check_options(spec: ModelSpec, options: BuildOptions, *, weights: str = "imagenet") -> None:
    """Refuse options with which ``spec`` cannot be built.

    ``weights`` is ``imagenet``, ``sample``, ``none`` or the name of a file; ``samples.sample_options`` checks the
    options for ``sample``. ``UsageError``: ``no-such-weights``, ``no-sample-weights``, ``bad-alpha``,
    ``bad-input-size``, ``bad-classes``, ``bad-pooling``, ``bad-seed``.
    """
    _check_weights(spec, weights)
    _check_alpha(spec, options, weights)
    _check_size(spec, options, weights)
    _check_classes(spec, options, weights)
    _check_pooling(options)
    if not 0 <= options.seed < 2**32:
        raise UsageError(
            f"--seed {options.seed} is not in 0..4294967295",
            hint="use --seed 0 or another number in that range",
            code="bad-seed",
        )


def output_classes(spec: ModelSpec, options: BuildOptions) -> int | None:
    """Return the number of classes of the built network, or None without its classifier."""
    if not options.include_top:
        return None
    return spec.classes if options.classes is None else options.classes


def image_size(spec: ModelSpec, options: BuildOptions) -> int:
    """Return the height (and width) of the built network's input, in pixels."""
    return spec.input_size if options.input_size is None else options.input_size


def _check_weights(spec: ModelSpec, weights: str) -> None:
    if weights in ("imagenet", "sample", "none") and weights not in spec.weights:
        others = ", ".join(other.title for other in CATALOG if weights in other.weights)
        raise UsageError(
            f"there are no {weights} weights for {spec.title}",
            hint=f"--weights {'|'.join(spec.weights)}|FILE; {weights} weights exist for {others}",
            code="no-sample-weights" if weights == "sample" else "no-such-weights",
        )


def _check_alpha(spec: ModelSpec, options: BuildOptions, weights: str) -> None:
    alpha = options.alpha
    if alpha is None:
        return
    if "alpha" not in spec.options:
        have = ", ".join(other.title for other in CATALOG if "alpha" in other.options)
        raise UsageError(
            f"{spec.title} has no width multiplier", hint=f"leave --alpha out; it is for {have}", code="bad-alpha"
        )
    if not math.isfinite(alpha) or not 0.05 <= alpha <= 8:
        raise UsageError(f"--alpha {alpha} is not in 0.05..8", hint="1.0 is the width in the paper", code="bad-alpha")
    if weights == "imagenet" and alpha not in WIDTHS[spec.name]:
        choices = ", ".join(map(str, WIDTHS[spec.name]))
        raise UsageError(
            f"there are no ImageNet weights for {spec.title} of width {alpha}",
            hint=f"--alpha {choices} have ImageNet weights; or use --weights FILE|none",
            code="bad-alpha",
        )


def _check_size(spec: ModelSpec, options: BuildOptions, weights: str) -> None:
    size = options.input_size
    if size is None:
        return
    if size < spec.min_size:
        raise UsageError(
            f"--input-size {size} is too small for {spec.title}",
            hint=f"use {spec.min_size} or more",
            code="bad-input-size",
        )
    if size > _LARGEST:
        raise UsageError(f"--input-size {size} is too large", hint=f"use {_LARGEST} or less", code="bad-input-size")
    sizes = SIZES.get(spec.name, (spec.input_size,))
    if weights == "imagenet" and options.include_top and size not in sizes:
        choices = ", ".join(map(str, sizes))
        raise UsageError(
            f"there are no ImageNet weights with a classifier for {spec.title} at input size {size}",
            hint=f"--input-size {choices} have ImageNet weights; or use --no-top or --weights FILE|none",
            code="bad-input-size",
        )


def _check_classes(spec: ModelSpec, options: BuildOptions, weights: str) -> None:
    classes = options.classes
    if classes is None:
        return
    if not options.include_top:
        raise UsageError(
            "--classes is for a classifier, and --no-top removes it",
            hint="leave --classes or --no-top out",
            code="bad-classes",
        )
    if classes < 1:
        raise UsageError(f"--classes {classes} is less than 1", hint="use 2 or more", code="bad-classes")
    if weights == "imagenet" and classes != spec.classes:
        raise UsageError(
            f"--classes {classes}: ImageNet weights have {spec.classes} classes",
            hint=f"leave --classes out, or use your own weights for {classes} classes: --weights FILE",
            code="bad-classes",
        )


def _check_pooling(options: BuildOptions) -> None:
    if options.pooling is None:
        return
    if options.pooling not in ("avg", "max"):
        raise UsageError(f"unknown --pooling {options.pooling!r}", hint="use --pooling avg|max", code="bad-pooling")
    if options.include_top:
        raise UsageError(
            "--pooling is for features, and the network has its classifier",
            hint="add --no-top, or leave --pooling out",
            code="bad-pooling",
        )
