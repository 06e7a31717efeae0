"""Runners, model files, ranges and accuracies: the values that one step hands to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import ConversionError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results.figures import Figure
from xxdeploy.runtime.bundle.tasks import check_output_range, check_task


class Runner(Protocol):
    """Anything that maps a batch to outputs: Keras, an ONNX Runtime session, an engine.

    A runner of a shipped file may have an attribute ``takes_pixels``; if it is true, ``run`` also takes decoded images,
    uint8 ``(n, h, w, c)``, which ``ImageSet.batches_for`` yields.
    """

    @property
    def name(self) -> str:
        """Return the runner's name in tables: ``keras``, ``onnx-fp32``, ``onnx-int8``."""
        ...

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Map a preprocessed batch ``(n, h, w, c)`` float32 to ``(n, classes)`` (or features) float32."""
        ...


class ManyRunner(Runner, Protocol):
    """A runner of a model that may have several outputs; ``run`` returns the first."""

    def run_all(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Map a preprocessed batch to every output by its name, the first one first."""
        ...


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One output of a model.

    ``name`` is that in the graph; ``classes`` the number of classes (None: there are none). ``task`` is a name of
    ``runtime.bundle.tasks.TASKS``, by default classification if there are classes, else features. ``shape`` is without
    the batch axis, empty where nobody asks for it. ``output_range`` holds the values of black and white of a picture.
    Of a sequence ``names`` are the texts of the classes, ``blank`` is the class without text, and ``truths`` are the
    true texts that the labels of the evaluation images count.
    """

    name: str
    classes: int | None
    task: str = ""
    shape: tuple[int, ...] = ()
    output_range: tuple[float, float] | None = None
    blank: int | None = None
    names: tuple[str, ...] = field(default=(), repr=False)
    truths: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.task:
            object.__setattr__(self, "task", "features" if self.classes is None else "classification")
        check_task(self.task, self.classes or 0)
        check_output_range(self.task, self.classes or 0, self.output_range)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file of a bundle, before it is written.

    ``name`` is that of its variant in the manifest; ``scheme`` names its number types (``float32``, ``static-w8c-a8``);
    ``requires`` holds the processor features without which it must not be picked. ``answers`` is the model that
    computes on this machine the outputs of this file on its own processor. ``flat`` are the bytes of a LiteRT file, of
    the same integers as ``model``; None for an ONNX file.
    """

    name: str
    model: OnnxModel
    scheme: str
    requires: tuple[str, ...]
    answers: OnnxModel
    flat: bytes | None = None

    @property
    def precision(self) -> str:
        """Return ``fp32``, ``fp16`` or ``int8``."""
        return {"float32": "fp32", "float16": "fp16"}.get(self.scheme, "int8")


def check_finite(name: str, low: float, high: float) -> None:
    """Refuse a tensor whose values reach NaN or infinity. Raises ``ConversionError`` (``non-finite-range``)."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConversionError(
            f"calibration saw a non-finite value in tensor {name!r}: {low}..{high}",
            hint="look for NaN or infinity in the weights (`xxdeploy inspect`) and in the images",
            code="non-finite-range",
        )


@dataclass(frozen=True, slots=True)
class Ranges:
    """The range (low, high) of each activation tensor, as calibration measured it.

    ``method`` is the calibrator with its parameter (``minmax``, ``percentile-99.99``). The digests of the model and of
    the images are the key under which the result may be reused; ``images`` is their number.
    """

    method: str
    model_digest: str
    data_digest: str
    images: int
    ranges: Mapping[str, tuple[float, float]] = field(repr=False)

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            check_finite(name, low, high)
            if low > high:
                raise ValueError(f"range of {name!r} is empty: {low} > {high}")

    def to_json(self) -> str:
        """Serialize with sorted keys; floats survive the round trip."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Read the text of :meth:`to_json`.

        ``ConversionError`` ``damaged-ranges``: not JSON, a field missing, unknown or of another type, an empty range;
        ``non-finite-range``.
        """
        try:
            value = json.loads(text)
            ranges = {str(name): (float(low), float(high)) for name, (low, high) in value.pop("ranges").items()}
            fields = {"method": str, "model_digest": str, "data_digest": str, "images": int}
            if any(type(value[field]) is not kind for field, kind in fields.items()):
                raise TypeError("a field has the wrong type")
            return cls(ranges=ranges, **value)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise ConversionError(
                f"the calibration record cannot be read: {error}",
                hint="delete the file and calibrate again",
                code="damaged-ranges",
            ) from error


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The top-1 class of each image by one runner, in the order of the set: two runners are compared image by image.

    ``top1`` and ``top5`` are shares (0..1) of right images; None where the set has no labels. Of a reader of texts,
    ``classes`` are numbers of whole texts, and ``figures`` say how many are right.
    """

    runner: str
    top1: float | None
    top5: float | None
    classes: tuple[int, ...] = field(repr=False)
    figures: tuple[Figure, ...] = ()

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.classes)

    def told_top5(self, classes: int | None) -> float | None:
        """Return ``top5`` for a table; None for a network of ten ``classes`` or fewer, of which five say little."""
        return self.top5 if classes is None or classes > 10 else None

    def agreement(self, other: Accuracy) -> float:
        """Return the share of images (0..1) with the same top-1 class in both."""
        if self.images != other.images or not self.images:
            raise ValueError("agreement needs two runs over the same images")
        return float(np.mean(np.asarray(self.classes) == np.asarray(other.classes)))


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step's name, the figures it counted (``facts``), and the seconds it took.

    ``facts`` are reproducible and may go into a bundle; ``seconds`` never does.
    """

    step: str
    facts: Mapping[str, str | int | float | bool]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a step: ``done`` of ``total`` units (images, layers); ``total`` is None if unknown.

    ``place`` is the step's number and the number of all steps (3, 10); None for a step inside another one.
    """

    step: str
    done: int
    total: int | None = None
    place: tuple[int, int] | None = None


OnProgress = Callable[[Progress], None]
"""A callback that a long step calls while it runs. The command line draws it; the library never prints."""
