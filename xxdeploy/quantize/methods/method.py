"""The interface of all accuracy methods: a function from a draft and its context to a better draft.

:mod:`xxdeploy.quantize.methods.registry` lists the methods in the order in which they apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.calibration.images import Batches
from xxdeploy.quantize.methods.float_means import FloatMeans
from xxdeploy.quantize.qdq import quantize
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.results import OnProgress, Ranges

Rounding = Mapping[str, NDArray[np.int8]]
"""The integers of layers, by first output and in the weights' layout, that are not rounded to the nearest."""


class Stage(Enum):
    """When a method applies: before the ranges of activations are measured, or after."""

    BEFORE_RANGES = "before ranges"
    AFTER_RANGES = "after ranges"


class Writer(Protocol):
    """Writes an INT8 model: ``quantize``, or ``quantize_for_tensorrt``, which places Q/DQ pairs elsewhere."""

    def __call__(
        self, model: OnnxModel, ranges: Ranges, scheme: Scheme, *, rounding: Rounding | None = None
    ) -> OnnxModel:
        """Return ``model`` in INT8; arguments and errors as :func:`xxdeploy.quantize.quantize`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A float ``model`` on its way to INT8, with the ``rounding`` of its weights and the ``ranges`` of its activations.

    ``ranges`` is None before calibration. A method that changes activations must run before it.
    """

    model: OnnxModel
    ranges: Ranges | None = None
    rounding: Rounding = field(default_factory=lambda: MappingProxyType({}))

    def quantized(self, scheme: Scheme, write: Writer = quantize) -> OnnxModel:
        """Return the INT8 model that ``write`` makes of this draft; errors as :func:`xxdeploy.quantize.quantize`."""
        return write(self.model, self.calibrated, scheme, rounding=self.rounding)

    @property
    def calibrated(self) -> Ranges:
        """The ranges, in a draft that has them."""
        if self.ranges is None:
            raise ValueError("this draft is not calibrated: the method belongs to Stage.AFTER_RANGES")
        return self.ranges


@dataclass(frozen=True, slots=True, eq=False)
class MethodContext:
    """What a method may use besides the draft.

    ``batches`` are calibration images, as many as the method's row in the registry asks for. ``write`` makes the INT8
    model. Before ranges, ``recipe`` holds the settings of that stage alone and ``scheme`` is the default, since one
    float model then serves all schemes and calibrators; after ranges, both are those of the model to be made.
    ``float_means`` are those of the draft's float model on the same images, if the caller keeps them for other recipes.
    """

    batches: Batches
    recipe: QuantizationRecipe = field(default_factory=QuantizationRecipe)
    scheme: Scheme = field(default_factory=Scheme)
    write: Writer = quantize
    on_progress: OnProgress | None = None
    float_means: FloatMeans | None = None


Apply = Callable[[Draft, MethodContext], Draft]
"""Return the improved draft, or the same one if the method finds nothing to do. The given draft does not change."""
