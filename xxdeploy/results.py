"""The values that flow between the steps. All frozen; each refuses an impossible state at birth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError, ConversionError


class Runner(Protocol):
    """Anything that maps a batch to outputs: Keras, an ONNX Runtime session, an engine."""

    @property
    def name(self) -> str:
        """What the runner is called in tables: ``keras``, ``onnx-fp32``, ``onnx-int8``."""
        ...

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map a preprocessed batch ``(n, h, w, c)`` float32 to ``(n, classes)`` (or features) float32."""
        ...


class ManyRunner(Runner, Protocol):
    """A runner of a model that may have several outputs; ``run`` gives the first."""

    def run_all(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Map a preprocessed batch to every output by its name, the first one first."""
        ...


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """One output of a model: its name in the graph, and how many ``classes`` it tells apart (None: features)."""

    name: str
    classes: int | None

    @property
    def task(self) -> str:
        """Return ``classification`` or ``features``."""
        return "features" if self.classes is None else "classification"


@dataclass(frozen=True, slots=True)
class Ranges:
    """What calibration found: for each activation tensor the (low, high) it takes.

    ``method`` is the calibrator with its parameter (``minmax``, ``percentile-99.99``); the two
    digests are the key under which the result may be reused; ``images`` is how many were seen.
    """

    method: str
    model_digest: str
    data_digest: str
    images: int
    ranges: Mapping[str, tuple[float, float]] = field(repr=False)

    def __post_init__(self) -> None:
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ConversionError(
                    f"calibration saw a non-finite value in tensor {name!r}: {low}..{high}",
                    hint="look for NaN or infinity in the weights (`xxdeploy inspect`) and in the images",
                    code="non-finite-range",
                )
            if low > high:
                raise ValueError(f"range of {name!r} is empty: {low} > {high}")

    def to_json(self) -> str:
        """Serialize with sorted keys; floats survive the round trip."""
        return json.dumps(
            {
                "method": self.method,
                "model_digest": self.model_digest,
                "data_digest": self.data_digest,
                "images": self.images,
                "ranges": {name: list(pair) for name, pair in self.ranges.items()},
            },
            indent=1,
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ConversionError
            ``damaged-ranges``: not JSON, a field missing, unknown or of another type, an empty range;
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
class Parity:
    """How far a candidate's outputs are from the reference's, on the same batches.

    ``max_abs``, ``mean_abs`` are over all outputs; ``max_rel`` is ``max_abs`` over the largest
    reference magnitude; ``cosine`` is the lowest cosine similarity of any image; ``agreement`` the
    share of images with the same top-1 class (0..1). ``scores`` is the lowest cosine of what the softmax was
    given, about its mean; None where the outputs are no probabilities.
    """

    reference: str
    candidate: str
    images: int
    max_abs: float
    mean_abs: float
    max_rel: float
    cosine: float
    agreement: float
    scores: float | None = None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Classes that a runner gave to labeled images, in the order of the set.

    ``top1`` and ``top5`` are shares (0..1); None where the set has no labels. ``classes`` holds the
    top-1 class of each image, so that two runners can be compared image by image.
    """

    runner: str
    top1: float | None
    top5: float | None
    classes: tuple[int, ...] = field(repr=False)

    @property
    def images(self) -> int:
        """How many images were seen."""
        return len(self.classes)

    def agreement(self, other: Accuracy) -> float:
        """Share of images (0..1) to which both give the same top-1 class."""
        if self.images != other.images or not self.images:
            raise ValueError("agreement needs two runs over the same images")
        return float(np.mean(np.asarray(self.classes) == np.asarray(other.classes)))


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """What quantization does to one layer, as signal-to-noise ratios in dB at its output; see :func:`decibels`.

    ``layer`` is the node's name, which begins with the Keras layer's; ``operator`` is the ONNX one. ``sqnr_db``: this
    layer alone is quantized and reads the float network. That has three parts, each measured by itself: ``weights_db``,
    its weights and bias are rounded (None for a layer without), ``input_db``, what it reads is, and ``output_db``, what
    it writes is (None where it writes float). ``accumulated_db``: the whole INT8 network up to here. Any ratio is None
    where the layer gives zeros, in float as in integers.
    """

    layer: str
    operator: str
    sqnr_db: float | None
    weights_db: float | None
    input_db: float | None
    output_db: float | None
    accumulated_db: float | None


def noise_to_json(layers: Sequence[LayerNoise]) -> str:
    """Serialize, in the order given; :func:`noise_from_json` gives the same values back."""
    return json.dumps({"layers": [asdict(layer) for layer in layers]}, indent=1, allow_nan=False)


def noise_from_json(text: str | bytes) -> tuple[LayerNoise, ...]:
    """Read what :func:`noise_to_json` wrote.

    Raises
    ------
    BundleError
        ``damaged-sensitivity``: not JSON, no layer, a field missing, unknown, of another type or out of range.
    """
    names = {field.name for field in fields(LayerNoise)}
    try:
        value = json.loads(text)
        if set(value) != {"layers"} or not value["layers"]:
            raise ValueError("it lists no layers")
        for entry in value["layers"]:
            if set(entry) != names:
                raise ValueError(f"a layer must have {', '.join(sorted(names))}")
            for name, item in entry.items():
                if name in ("layer", "operator"):
                    right = isinstance(item, str) and item.isprintable()
                else:
                    right = item is None or (type(item) in (int, float) and abs(item) <= CEILING_DB)
                if not right:
                    raise ValueError(f"{name} is {str(item)[:80]!r}")
        return tuple(LayerNoise(**entry) for entry in value["layers"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(
            f"the record of what each layer loses cannot be read: {error}",
            hint="copy or export the bundle again",
            code="damaged-sensitivity",
        ) from error


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one step did: its name, what it counted or changed, and the seconds it took.

    ``facts`` are reproducible and may go into a bundle; ``seconds`` never does.
    """

    step: str
    facts: Mapping[str, str | int | float | bool]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come: ``done`` of ``total`` units (images, layers); ``total`` None if unknown."""

    step: str
    done: int
    total: int | None = None


OnProgress = Callable[[Progress], None]
"""What a long step calls as it goes. The command line draws it; the library never prints."""

CEILING_DB = 200.0
"""Where decibels end on both sides. float32 has 144 dB; more is no difference at all, and JSON has no infinity."""


def decibels(signal: float, noise: float) -> float | None:
    """Return ``10 log10(signal / noise)`` of two sums of squares, held within -200..200.

    None where both are zero: a dead tensor that stayed dead has no quality.
    """
    if signal == noise == 0:
        return None
    if noise == 0 or signal == 0:
        return CEILING_DB if noise == 0 else -CEILING_DB
    return max(-CEILING_DB, min(CEILING_DB, 10 * (math.log10(signal) - math.log10(noise))))
