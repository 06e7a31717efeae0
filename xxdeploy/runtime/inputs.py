"""What a model reads: a picture, an array of numbers, or several of them.

Each kind of input turns *samples* (a file, a picture, numbers) into *decoded* values and these into the values that the
network reads. A model with several inputs has one row for each sample: the inputs flattened and joined in their order,
(n, numbers) float32. So calibration, parity, golden pairs and engines handle one array, whatever the model reads; only
the place that feeds the network takes a row apart (:func:`unpack`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.picture import MAX_PIXELS
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.scaling import float_from
from xxdeploy.runtime.image.scaling import invalid as _invalid

MAX_INPUTS = 64
MAX_NUMBERS = 1 << 26
"""Numbers of one sample of an array: 256 MB as float32."""
MAX_AXES = 8
_FLOAT32 = np.dtype(np.float32)
_ONE = (np.ndarray, str, bytes, Image.Image, os.PathLike)

Sample: TypeAlias = Any
"""A picture, an array, or for several inputs a mapping from their names (or a tuple in their order) to these."""


@dataclass(frozen=True, slots=True)
class ArrayInput:
    """An input that is no picture: feature maps, a vector, a few numbers.

    Parameters
    ----------
    shape
        Of one sample, without the batch axis; ``()`` is one number.
    span
        The least and the largest value of the data that the export saw; None if it saw none. Values outside it may lie
        outside the ranges of an INT8 model, which clips them.

    Raises
    ------
    UsageError
        ``preprocess-invalid``: more than ``MAX_AXES`` axes or ``MAX_NUMBERS`` numbers, a side below 1, a span that is
        not finite or has its ends exchanged.
    """

    shape: tuple[int, ...]
    span: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        sides = all(type(side) is int and side >= 1 for side in self.shape)
        if not sides or len(self.shape) > MAX_AXES or math.prod(self.shape) > MAX_NUMBERS:
            raise _invalid(f"an array has up to {MAX_AXES} sides of at least 1, not {list(self.shape)}")
        if self.span is not None:
            low, high = self.span
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise _invalid(f"the range of an array must be two numbers in order, not {low} and {high}")

    @property
    def area(self) -> int:
        """The number of places of a feature map, 1 of a vector: what the memory of a batch depends on."""
        return math.prod(self.shape[:-1])

    def pixels(self, sources: Sequence[Sample], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:  # noqa: ARG002
        """Return the numbers of several samples, (n, *shape) float32.

        A sample is an array or nested lists of numbers of this shape; where the shape holds one number, a plain number.

        Raises
        ------
        UsageError
            ``no-images`` for an empty list; ``array-shape``: another shape; ``array-values``: no numbers, or NaN or
            infinity.
        """
        if not len(sources):
            raise UsageError("there is no sample to work on", hint="give at least one", code="no-images")
        return np.stack([self._one(source) for source in sources])

    def normalize(self, decoded: NDArray[Any]) -> NDArray[np.float32]:
        """Return (n, *shape) float32 as it is; ``UsageError`` ``batch-shape`` for another shape or dtype."""
        if decoded.dtype != _FLOAT32 or decoded.shape[1:] != self.shape or decoded.ndim != len(self.shape) + 1:
            raise _wrong_batch(decoded, self.shape, "float32")
        return decoded

    def batch(self, sources: Sequence[Sample]) -> NDArray[np.float32]:
        """Return several samples as the network reads them. Errors as :meth:`pixels`."""
        return self.pixels(sources)

    def is_one(self, samples: Any) -> bool:
        """Tell one sample from a list of samples: an array or a number is one."""
        return not isinstance(samples, (list, tuple))

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values."""
        return {"shape": list(self.shape), "range": None if self.span is None else list(self.span)}

    @classmethod
    def from_json(cls, value: object) -> ArrayInput:
        """Read what ``to_json`` wrote. ``UsageError`` ``preprocess-invalid``."""
        if not isinstance(value, dict) or set(value) != {"shape", "range"} or not isinstance(value["shape"], list):
            raise _invalid("an array must be an object with the keys range and shape")
        span = value["range"]
        if span is None:
            return cls(tuple(value["shape"]))
        ends = tuple(map(float_from, span)) if isinstance(span, list) else ()
        if len(ends) != 2 or any(type(end) is not float for end in ends):
            raise _invalid(f"the range of an array must be two numbers or null, not {str(span)[:80]}")
        return cls(tuple(value["shape"]), ends)  # type: ignore[arg-type]

    def _one(self, source: Sample) -> NDArray[np.float32]:
        try:
            given = np.asarray(source)
            with np.errstate(over="ignore"):  # infinity is refused below
                numbers = given.astype(np.float32, copy=False) if given.dtype.kind in "fiub" else None
        except (TypeError, ValueError, OverflowError):  # ragged lists, objects
            numbers = None
        if numbers is None:
            raise UsageError(
                f"{_told(source)} is not an array of numbers",
                hint=f"give numbers of shape {_sides(self.shape)}",
                code="array-values",
            )
        if numbers.shape != self.shape:
            if numbers.size != 1 or math.prod(self.shape) != 1:
                raise UsageError(
                    f"an array has the shape {_sides(numbers.shape)}, and the model reads {_sides(self.shape)}",
                    hint="give one sample, or a list of them",
                    code="array-shape",
                )
            numbers = numbers.reshape(self.shape)
        if not np.isfinite(numbers).all():
            raise UsageError("an array holds NaN or infinity", hint="give finite numbers", code="array-values")
        return numbers


@dataclass(frozen=True, slots=True)
class SeveralInputs:
    """Two inputs or more, by their names in the graph, in the order of the model.

    ``UsageError`` ``preprocess-invalid``: fewer than two, more than ``MAX_INPUTS``, or a name twice.
    """

    parts: tuple[tuple[str, Preprocess | ArrayInput], ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.parts) <= MAX_INPUTS:
            raise _invalid(f"there are 2 to {MAX_INPUTS} inputs, not {len(self.parts)}")
        if len({name.casefold() for name in self.names}) != len(self.parts):
            raise _invalid("two inputs have one name")

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(name for name, _ in self.parts)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample of each input."""
        return tuple(shape_of(part) for _, part in self.parts)

    @property
    def area(self) -> int:
        """The sum of the places of all inputs."""
        return sum(area_of(part) for _, part in self.parts)

    def pixels(self, sources: Sequence[Sample], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
        """Decode several samples: (n, numbers) float32, pixels as 0..255.

        A sample is a mapping from the names of the inputs, or a tuple in their order.

        Raises
        ------
        UsageError
            ``no-images``; ``wrong-inputs``: a name is missing or unknown, or the sample is neither of the two; those of
            each input, with its name.
        """
        if not len(sources):
            raise UsageError("there is no sample to work on", hint="give at least one", code="no-images")
        rows = [self._row(source) for source in sources]
        decoded = []
        for index, (name, part) in enumerate(self.parts):
            try:
                decoded.append(part.pixels([row[index] for row in rows], max_pixels=max_pixels))
            except UsageError as error:
                raise UsageError(f"input {name}: {error.message}", hint=error.hint, code=error.code) from error
        return pack(decoded)

    def normalize(self, decoded: NDArray[Any]) -> NDArray[np.float32]:
        """Normalize what :meth:`pixels` returned; the same shape, float32. ``UsageError`` ``batch-shape``."""
        if decoded.dtype != _FLOAT32 or decoded.ndim != 2 or decoded.shape[1] != sum(map(math.prod, self.shapes)):
            raise _wrong_batch(decoded, (sum(map(math.prod, self.shapes)),), "float32")
        return pack([part.normalize(values) for (_, part), values in zip(self.parts, self.apart(decoded), strict=True)])

    def apart(self, decoded: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return the decoded values of each input: (n, height, width, channels) uint8, or (n, *shape) float32."""
        values = unpack(decoded, self.shapes)
        return [
            array.astype(np.uint8) if isinstance(part, Preprocess) and not part.sizing.has_fractions else array
            for (_, part), array in zip(self.parts, values, strict=True)
        ]

    def batch(self, sources: Sequence[Sample]) -> NDArray[np.float32]:
        """Return several samples as the network reads them. Errors as :meth:`pixels`."""
        return self.normalize(self.pixels(sources))

    def is_one(self, samples: Any) -> bool:
        """Tell one sample from a list of samples: a mapping or a tuple is one."""
        return not isinstance(samples, list)

    def to_json(self) -> dict[str, object]:
        """Return the inputs by name, as plain values."""
        return {name: part.to_json() for name, part in self.parts}

    def _row(self, source: Sample) -> list[Any]:
        names = self.names
        if isinstance(source, tuple) and len(source) == len(names):
            return list(source)
        if not isinstance(source, Mapping):
            raise UsageError(
                f"a sample of this model has {len(names)} inputs, {', '.join(names)}, and {_told(source)} is given",
                hint=f"give {{{', '.join(f'{name!r}: ...' for name in names)}}}, or a tuple in this order",
                code="wrong-inputs",
            )
        if set(source) != set(names):
            sides = ("it lacks", set(names) - set(source)), ("the model has no input", set(source) - set(names))
            problem = " and ".join(f"{words} {', '.join(sorted(map(str, left)))}" for words, left in sides if left)
            raise UsageError(
                f"a sample does not fit the model: {problem}",
                hint=f"the inputs are {', '.join(names)}",
                code="wrong-inputs",
            )
        return [source[name] for name in names]


InputForm: TypeAlias = Preprocess | ArrayInput | SeveralInputs
"""How samples become what a model reads: ``pixels`` decodes, ``normalize`` scales, ``batch`` does both."""


def parts_of(form: InputForm) -> tuple[tuple[str, Preprocess | ArrayInput], ...]:
    """Return the inputs with their names; that of a single input is ``""``."""
    return form.parts if isinstance(form, SeveralInputs) else (("", form),)


def shape_of(form: Preprocess | ArrayInput) -> tuple[int, ...]:
    """Return the shape of one sample as the network reads it."""
    return (form.height, form.width, form.channels) if isinstance(form, Preprocess) else form.shape


def area_of(form: InputForm) -> int:
    """Return the number of pixels, or of places of a feature map: what the memory of a batch depends on."""
    return form.height * form.width if isinstance(form, Preprocess) else form.area


def pack(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Join (n, ...) arrays of the inputs into (n, numbers) float32. Pixels 0..255 stay exact."""
    return np.concatenate([array.reshape(len(array), -1).astype(np.float32, copy=False) for array in arrays], axis=1)


def unpack(batch: NDArray[Any], shapes: Sequence[Sequence[int]]) -> list[NDArray[Any]]:
    """Take (n, numbers) apart into (n, *shape) of each input. The numbers must fit: callers check that."""
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    parts = np.split(batch, ends[:-1], axis=1)
    return [part.reshape(len(batch), *shape) for part, shape in zip(parts, shapes, strict=True)]


def described(part: Preprocess | ArrayInput) -> str:
    """Return an input in a few words, for tables."""
    if isinstance(part, Preprocess):
        return f"{part.height} x {part.width} x {part.channels}, {_meaning(part)}"
    return f"array {_sides(part.shape)}, {_meaning(part)}"


def in_words(part: Preprocess | ArrayInput) -> str:
    """Return an input as a sentence of ``print(runtime)`` has it."""
    if isinstance(part, ArrayInput):
        return described(part)
    color, sizing = "gray" if part.channels == 1 else "RGB", f"{part.sizing.resize}, {part.sizing.resample}"
    return f"{color} picture, {part.height} x {part.width} ({sizing}), scaling {part.mode}"


def described_batch(part: Preprocess | ArrayInput) -> str:
    """Return the same with the shape of the network's input."""
    return f"({', '.join(map(str, ('batch', *shape_of(part))))}), {_meaning(part)}"


def _meaning(part: Preprocess | ArrayInput) -> str:
    if isinstance(part, Preprocess):
        return f"{part.mode}, {part.sizing}"
    return "numbers" if part.span is None else f"{part.span[0]:.4g} to {part.span[1]:.4g}"


def is_one(form: InputForm, samples: Any) -> bool:
    """Tell one sample from a list of them; anything else counts as one, whose error names the accepted types."""
    if not isinstance(form, Preprocess):
        return form.is_one(samples)
    return isinstance(samples, _ONE) or not isinstance(samples, Sequence)


def changed_pictures(form: InputForm, **fields: Any) -> InputForm:
    """Return the same with other ``fields`` of the :class:`Preprocess` of each picture."""
    if isinstance(form, SeveralInputs):
        return SeveralInputs(tuple((name, _changed(part, fields)) for name, part in form.parts))
    return _changed(form, fields)


def _changed(part: Preprocess | ArrayInput, fields: Mapping[str, Any]) -> Preprocess | ArrayInput:
    return replace(part, **fields) if isinstance(part, Preprocess) else part


def with_spans(form: InputForm, spans: Sequence[tuple[float, float] | None]) -> InputForm:
    """Return the same with the span of each array, in the order of the inputs."""
    made = tuple(
        (name, replace(part, span=span) if isinstance(part, ArrayInput) else part)
        for (name, part), span in zip(parts_of(form), spans, strict=True)
    )
    return SeveralInputs(made) if isinstance(form, SeveralInputs) else made[0][1]


def random_samples(form: InputForm, count: int, seed: int = 0) -> list[Sample]:
    """Return ``count`` samples of random pixels and numbers, to time a model with.

    Numbers are uniform in the array's span, 0..1 where it is not known.
    """
    random = np.random.default_rng(seed)
    if isinstance(form, SeveralInputs):
        columns = [random_samples(part, count, seed + index) for index, (_, part) in enumerate(form.parts)]
        return [dict(zip(form.names, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(form, ArrayInput):
        low, high = form.span or (0.0, 1.0)
        return list(random.uniform(low, high, (count, *form.shape)).astype(np.float32))
    return list(random.integers(0, 256, (count, form.height, form.width, form.channels), np.uint8))


def one_picture(form: InputForm, name: str) -> Preprocess:
    """Return the preprocessing of a model of one picture; ``UsageError`` ``not-one-picture`` for any other model."""
    if isinstance(form, Preprocess):
        return form
    told = f"the inputs {', '.join(form.names)}" if isinstance(form, SeveralInputs) else "an array as its input"
    raise UsageError(
        f"{name} has {told}, and this step is for models of one picture",
        hint="leave the step out for this model",
        code="not-one-picture",
    )


def _told(source: object) -> str:
    return f"a {type(source).__name__}" + (f" of {len(source)}" if isinstance(source, (list, tuple)) else "")


def _sides(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _wrong_batch(batch: NDArray[Any], shape: tuple[int, ...], dtype: str) -> UsageError:
    return UsageError(
        f"a batch must be (n, {', '.join(map(str, shape))}) {dtype}, not {batch.shape} {batch.dtype}",
        hint="let .batch() make it",
        code="batch-shape",
    )
