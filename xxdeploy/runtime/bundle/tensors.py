"""The inputs and outputs of a model file, as schema 5 of the manifest lists them for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.strict_json import wrong_value
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput

NHWC = "NHWC"
"""The layout of a picture: batch, height, width, channels."""
INPUT_DTYPES = ("uint8", "float32")
OUTPUT_DTYPES = ("float32", "int8", "uint8", "int64")
MAX_AXES = 9
MAX_SIDE = 1 << 31


class Tensor(Protocol):
    """What the manifest and an engine both say of an input or output."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def dtype(self) -> str: ...  # noqa: D102

    @property
    def shape(self) -> tuple[int | None, ...]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class InputTensor:
    """An input of a model file.

    ``shape`` is that in the file, with the batch; None is a free axis. ``layout`` is ``NHWC`` for a picture, else None.
    ``dtype`` is ``uint8`` (the decoded and resized pixels as they are) or ``float32`` (after the preprocessing).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    layout: str | None

    def __post_init__(self) -> None:
        _check_tensor(self, INPUT_DTYPES)
        if self.layout not in (None, NHWC) or (self.dtype == "uint8" and self.layout is None):
            raise wrong_value(f"the input {self.name[:80]} is {self.dtype} with the layout {str(self.layout)[:20]}")

    def check_part(self, part: Preprocess | ArrayInput) -> None:
        """Raise ``BundleError`` ``manifest-value`` unless the input takes what ``part`` makes."""
        picture = isinstance(part, Preprocess)
        sample = (part.height, part.width, part.channels) if isinstance(part, Preprocess) else part.shape
        if picture != (self.layout == NHWC) or not fits(self.shape[1:], sample):
            raise wrong_value(
                f"the input {self.name} is {in_words(self)} with the layout {self.layout}, "
                f"and the preprocessing makes {' x '.join(map(str, sample))}"
            )


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """An output of a model file; ``shape`` as of :class:`InputTensor`."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __post_init__(self) -> None:
        _check_tensor(self, OUTPUT_DTYPES)


def check_held(
    model: str,
    told: tuple[Sequence[InputTensor], Sequence[OutputTensor]],
    held: tuple[Sequence[Tensor], Sequence[Tensor]],
) -> None:
    """Raise ``BundleError`` ``bundle-signature`` unless the manifest tells the truth about a loaded model file.

    ``told`` are the inputs and outputs in the manifest, ``held`` those that the engine found in the file ``model``.
    Inputs must be equal. An engine may know a side of an output that the file leaves open.
    """
    _compare("input", model, told[0], held[0])
    _compare("output", model, told[1], held[1])


def _compare(kind: str, model: str, told: Sequence[Tensor], held: Sequence[Tensor]) -> None:
    for one, other in zip(told, held, strict=False):
        same = one.shape == other.shape if kind == "input" else fits(one.shape, other.shape)
        if (one.name, one.dtype) != (other.name, other.dtype) or not same:
            raise _untrue(model, f"the {kind} {in_words(other)}", in_words(one))
    if len(told) != len(held):
        raise _untrue(model, f"{len(held)} {kind}s", str(len(told)))


def fits(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Tell whether two shapes can be of one tensor: a side of None is free."""
    return len(shape) == len(other) and all(
        one is None or two is None or one == two for one, two in zip(shape, other, strict=True)
    )


def in_words(tensor: Tensor) -> str:
    """Return a tensor for messages: ``image uint8 (any, 224, 224, 3)``."""
    sides = ", ".join("any" if side is None else str(side) for side in tensor.shape)
    return f"{tensor.name} {tensor.dtype} ({sides})"


def _check_tensor(tensor: Tensor, dtypes: Sequence[str]) -> None:
    if not tensor.name:
        raise wrong_value("the name of an input or output must not be empty")
    if tensor.dtype not in dtypes:
        raise wrong_value(
            f"the dtype of {tensor.name[:80]} must be one of {', '.join(dtypes)}, not {tensor.dtype[:40]}"
        )
    if not 1 <= len(tensor.shape) <= MAX_AXES:
        raise wrong_value(f"{tensor.name[:80]} must have 1 to {MAX_AXES} axes, not {len(tensor.shape)}")
    if any(side is not None and not 1 <= side < MAX_SIDE for side in tensor.shape):
        raise wrong_value(f"the sides of {tensor.name[:80]} must be null or 1 to {MAX_SIDE - 1}")


def _untrue(model: str, held: str, told: str) -> BundleError:
    return BundleError(
        f"{model} has {held}, the manifest says {told}",
        hint="export the bundle again",
        code="bundle-signature",
    )
