"""The ways to bring a picture to a network, and which of them its labeled pictures support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xxdeploy.datasets.scaling_file import scaling_for
from xxdeploy.runtime.image.preprocess import CUSTOM, Preprocess
from xxdeploy.runtime.image.resample import ANTIALIASED, FRACTIONAL, RESAMPLES
from xxdeploy.runtime.image.scaling import NAMED, Scaling
from xxdeploy.runtime.image.sizing import CROP_FRACTION, Sizing
from xxdeploy.verify.statistics import Interval, PairedChange, wilson_interval

SCALINGS = ("tf", "caffe", "torch", "none", "0..1")
FILE = "file"
"""The scaling of a file of the user's."""
ASPECTS = ("channels", "scaling", "classes", "resample", "resize")
"""What a pipeline consists of, in the order of a table."""

SIGNIFICANT = 0.01
"""A p-value below this excludes chance."""
_USUAL = ("bilinear", ANTIALIASED, "nearest")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One way from the file of a picture to a class.

    ``scaling`` is one of ``SCALINGS``, or ``FILE`` with ``own``; ``channels`` is ``rgb``, ``bgr`` or ``gray``;
    ``classes`` names the order of the classes.
    """

    scaling: str
    channels: str
    sizing: Sizing
    classes: str
    own: Scaling | None = None

    @property
    def word(self) -> str:
        """The value of ``--preprocess``, without a file."""
        usual = self.channels in (usual_channels(self.scaling), "gray")
        return self.scaling if usual else f"{self.scaling}-{self.channels}"

    def aspect(self, name: str) -> str:
        """Return the value of one of ``ASPECTS`` in words."""
        if name == "resample":
            return self.sizing.resample
        if name == "resize":
            return self.sizing.geometry
        return str(getattr(self, name))

    def preprocess(self, size: tuple[int, int, int]) -> Preprocess:
        """Return the preprocessing for an input of ``size`` (height, width, channels)."""
        if self.own is not None and self.scaling == FILE:
            return Preprocess(*size, CUSTOM, self.sizing, replace(self.own, order=_order(self.channels)))
        mode, scaling = scaling_for(self.word, size[2])
        return Preprocess(*size, mode, self.sizing, scaling)


def usual_channels(scaling: str) -> str:
    """Return the order of channels that belongs to a scaling: ``bgr`` for ``caffe``, else ``rgb``."""
    return "bgr" if scaling == "caffe" else "rgb"


def _order(channels: str) -> str:
    return "rgb" if channels == "gray" else channels


def pipeline_of(preprocess: Preprocess, classes: str) -> Pipeline:
    """Return the pipeline of a preprocessing."""
    channels = "gray" if preprocess.channels == 1 else "rgb"
    scaling = preprocess.scaling
    if scaling is None:
        return Pipeline(preprocess.mode, "bgr" if preprocess.mode == "caffe" else channels, preprocess.sizing, classes)
    for name in NAMED:
        if (channels == "rgb" or name == "0..1") and scaling_for(name, preprocess.channels)[1] == scaling:
            kind, _, order = name.partition("-")
            return Pipeline(kind, order or channels, preprocess.sizing, classes)
    return Pipeline(FILE, scaling.order if preprocess.channels == 3 else "gray", preprocess.sizing, classes, scaling)


def scalings_from(start: Pipeline) -> list[Pipeline]:
    """Return ``start`` with each scaling and each order of the channels, ``start`` first."""
    if start.channels == "gray":
        kinds = [("tf", "gray"), ("none", "gray"), ("0..1", "gray")]
    else:
        pairs = [(scaling, usual_channels(scaling)) for scaling in SCALINGS]
        kinds = pairs + [(scaling, "rgb" if order == "bgr" else "bgr") for scaling, order in pairs]
    if start.scaling == FILE:
        kinds += [(FILE, order) for order in (["gray"] if start.channels == "gray" else ["rgb", "bgr"])]
    made = [replace(start, scaling=scaling, channels=order) for scaling, order in kinds]
    return list(dict.fromkeys([start, *made]))


def sizings_from(start: Pipeline) -> list[Pipeline]:
    """Return ``start`` with each usual geometry and filter, ``start`` first."""
    geometries = [
        replace(Sizing(), resample=name) if resize == "squash" else Sizing(resize, name, fraction)
        for name in _USUAL
        for resize, fraction in (
            ("squash", CROP_FRACTION),
            ("crop", 1.0),
            ("crop", CROP_FRACTION),
            ("pad", CROP_FRACTION),
        )
    ]
    geometries += [Sizing("fit", ANTIALIASED), Sizing("fit", "lanczos-antialias")]
    return _with(start, geometries)


def few_sizings_from(start: Pipeline) -> list[Pipeline]:
    """Return ``start`` with the sizings of the most usual loaders, ``start`` first."""
    usual = [Sizing(resample=name) for name in _USUAL]
    return _with(start, [*usual, Sizing("crop", "bilinear", 1.0), Sizing("pad", "bilinear")])


def filters_from(start: Pipeline) -> list[Pipeline]:
    """Return ``start`` with each filter, ``start`` first."""
    names = [name for name in RESAMPLES if start.sizing.resize != "fit" or name not in FRACTIONAL]
    return _with(start, [replace(start.sizing, resample=name) for name in names])


def geometries_from(start: Pipeline) -> list[Pipeline]:
    """Return ``start`` with each geometry, ``start`` first."""
    name = start.sizing.resample
    others = _geometries(name)
    return _with(start, others if name in FRACTIONAL else [*others, Sizing("fit", name)])


def _geometries(resample: str) -> list[Sizing]:
    return [
        Sizing("squash", resample),
        Sizing("crop", resample, 1.0),
        Sizing("crop", resample),
        Sizing("pad", resample),
    ]


def _with(start: Pipeline, sizings: Sequence[Sizing]) -> list[Pipeline]:
    return list(dict.fromkeys([start, *(replace(start, sizing=sizing) for sizing in sizings)]))


@dataclass(frozen=True, slots=True)
class Rival:
    """Another value of an aspect, measured with the rest of the best pipeline.

    ``change`` is that of top-1 from the best value to this one; ``excluded`` if the loss is significant.
    """

    value: str
    top1: float
    change: PairedChange
    excluded: bool


@dataclass(frozen=True, slots=True)
class Aspect:
    """What the pictures say about one of ``ASPECTS``.

    ``best`` scored highest; ``given`` is the value as given, or None; ``chosen`` is ``given`` unless it is excluded.
    """

    name: str
    best: str
    given: str | None
    chosen: str
    rivals: tuple[Rival, ...]

    @property
    def ties(self) -> tuple[str, ...]:
        """The other values that the pictures cannot tell from the best one."""
        return tuple(rival.value for rival in self.rivals if not rival.excluded)

    @property
    def top1(self) -> float:
        """Top-1 of the best value."""
        return self.rivals[0].top1 - self.rivals[0].change.change

    @property
    def is_clear(self) -> bool:
        """Whether all other values are excluded."""
        return not self.ties


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The pipeline that labeled pictures support.

    ``given`` is the pipeline as given (None: nothing was) and ``chosen`` the one to use; ``given_top1`` and ``top1``
    are theirs on ``images`` pictures, ``best_top1`` that of the best one of all. ``most_usual`` is the share of the
    most frequent class. ``supported`` is False if even the best of ``tried`` pipelines is not better than naming this
    class always.
    """

    images: int
    tried: int
    given: Pipeline | None
    given_top1: float | None
    chosen: Pipeline
    top1: float
    best_top1: float
    change: PairedChange | None
    most_usual: float
    supported: bool
    aspects: tuple[Aspect, ...]

    @property
    def interval(self) -> Interval:
        """The interval of ``top1``."""
        return wilson_interval(round(self.top1 * self.images), self.images)

    @property
    def mends(self) -> bool:
        """Whether another pipeline than the given one is clearly better."""
        change = self.change
        return self.supported and change is not None and change.change > 0 and change.p_value < SIGNIFICANT

    def unclear(self, name: str) -> Aspect | None:
        """Return an aspect that the pictures leave open."""
        return next((aspect for aspect in self.aspects if aspect.name == name and not aspect.is_clear), None)


def options_of(pipeline: Pipeline, given: Pipeline | None, classes: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the options of ``xxdeploy export`` that turn ``given`` (None: nothing) into ``pipeline``.

    ``classes`` has the options of each order of the classes.
    """
    words: list[str] = []
    if given is None or (given.scaling, given.channels) != (pipeline.scaling, pipeline.channels):
        words += ["--preprocess", pipeline.word]
    before = Sizing() if given is None else given.sizing
    now = pipeline.sizing
    if now.resize != before.resize:
        words += ["--resize", now.resize]
    if now.resample != before.resample:
        words += ["--resample", now.resample]
    if now.resize == "crop" and now.crop_fraction not in (before.crop_fraction, CROP_FRACTION):
        words += ["--crop-fraction", f"{now.crop_fraction:g}"]
    if given is None or pipeline.classes != given.classes:
        words += classes[pipeline.classes]
    return tuple(words)
