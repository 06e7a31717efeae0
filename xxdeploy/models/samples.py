"""The weights and images that ship with xxdeploy, so a first export needs no download."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.models.catalog import CATALOG, BuildOptions, ModelSpec
from xxdeploy.shipped import PACKAGE, shipped

FASHION_MNIST = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
"""The ten classes in the order of the data set's labels; also the names of the class folders."""

PHOTOS = "photos"
"""The calibration set of photographs: the default for ImageNet weights."""
CALIBRATION_SETS = (PHOTOS, "sample")
"""The calibration sets that ship: the files of these names in ``calibration/``."""

_OPTIONS = {
    "lenet": BuildOptions(input_size=28, classes=10),
    "mobilenetv2": BuildOptions(alpha=0.35, input_size=48, classes=10),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample of one network: a ``.weights.h5`` file, the options of the trained network, and its class names.

    ``calibration`` and ``evaluation`` are disjoint image folders by class; ``statement`` describes the weights.
    """

    options: BuildOptions
    weights: Path
    labels: tuple[str, ...]
    calibration: Path
    evaluation: Path
    statement: str


def sample_for(spec: ModelSpec) -> Sample:
    """Return the sample of a network. ``UsageError``: ``no-sample-weights``, ``no-shipped-folder``."""
    if spec.name not in _OPTIONS:
        have = " and ".join(other.title for other in CATALOG if other.name in _OPTIONS)
        raise UsageError(
            f"there are no sample weights for {spec.title}",
            hint=f"{have} have sample weights; or use --weights {'|'.join(spec.weights)}|FILE",
            code="no-sample-weights",
        )
    options = _OPTIONS[spec.name]
    folder = shipped_folder() / "sample"
    width = f" of width {options.alpha}" if options.alpha else ""
    return Sample(
        options=options,
        weights=PACKAGE / "models" / "weights" / f"{spec.name}.weights.h5",
        labels=FASHION_MNIST,
        calibration=folder / "calibration",
        evaluation=folder / "evaluation",
        statement=(
            f"sample weights: {spec.title}{width} at {options.input_size} px, trained on Fashion-MNIST "
            "(10 kinds of clothing), to try xxdeploy with, not to deploy"
        ),
    )


def sample_options(spec: ModelSpec, options: BuildOptions) -> BuildOptions:
    """Return the options of the sample with the seed of ``options``.

    ``UsageError``: ``no-sample-weights``; ``sample-options``: the trained network has other options.
    """
    fixed = sample_for(spec).options
    for field in ("alpha", "input_size", "classes", "include_top", "pooling"):
        asked, trained = getattr(options, field), getattr(fixed, field)
        if asked is not None and asked != trained:
            raise UsageError(
                f"the sample weights of {spec.title} have {field} {trained}, not {asked}",
                hint=f"leave the option out, or use other weights: --weights {spec.weights[0]}|none|FILE",
                code="sample-options",
            )
    return replace(fixed, seed=options.seed)


def shipped_set(name: str) -> Path | None:
    """Return the file of a calibration set that ships, such as ``photos``, or None.

    ``UsageError`` ``no-shipped-folder``.
    """
    return shipped_folder() / f"{name}.toml" if name in CALIBRATION_SETS else None


def shipped_folder(package: Path = PACKAGE) -> Path:
    """Return the folder ``calibration/`` of the calibration sets that ship. ``UsageError`` ``no-shipped-folder``."""
    return shipped("calibration", "sample", package)
