"""The figures of tasks without one class a picture: their names, units and digits, as values of the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FigureKind:
    """How a figure is called and written.

    ``unit`` is ``dB``, ``%`` (the value is a share, 0..1) or empty; ``form`` is the format of the number in that unit.
    ``rises`` tells whether a larger value is a better one.
    """

    title: str
    unit: str
    form: str
    rises: bool

    def text(self, value: float) -> str:
        """Write a value without its unit."""
        return format(100 * value if self.unit == "%" else value, self.form)

    @property
    def heading(self) -> str:
        """Return the title with the unit, for a column."""
        return f"{self.title} {self.unit}".rstrip()


KINDS: dict[str, FigureKind] = {
    "psnr": FigureKind("PSNR", "dB", ".1f", rises=True),
    "ssim": FigureKind("SSIM", "", ".4f", rises=True),
    "iou": FigureKind("mean IoU", "", ".4f", rises=True),
    "pixels": FigureKind("same pixels", "%", ".2f", rises=True),
    "p95_error": FigureKind("p95 error", "", ".3g", rises=False),
    "mean_error": FigureKind("mean error", "", ".3g", rises=False),
    "largest_error": FigureKind("largest error", "", ".3g", rises=False),
    "same_texts": FigureKind("same texts", "%", ".1f", rises=True),
    "changed_characters": FigureKind("edits", "%", ".2f", rises=False),
    "right_texts": FigureKind("right texts", "%", ".1f", rises=True),
    "wrong_characters": FigureKind("CER", "%", ".2f", rises=False),
}
"""What a candidate is compared with its reference by.

``psnr`` and ``ssim`` are means over the pictures, of pixels clipped to the range of the output. ``iou`` is the mean
over the classes that occur; ``pixels`` the share of pixels with the same class. The errors are absolute differences of
values, in the unit of the output. ``same_texts`` is the share of whole texts, ``changed_characters`` their edit
distance over the characters of the reference; ``right_texts`` and ``wrong_characters`` (the character error rate) are
the same against true texts.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a candidate against its reference.

    ``name`` is a key of ``KINDS``; ``interval`` is at 95 %, None where none was computed; ``images`` is the number of
    pictures that it was measured on, None for all of the comparison.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise ValueError(f"there is no figure {self.name!r}")
        if self.interval is not None and not self.interval[0] <= self.interval[1]:
            raise ValueError(f"not an interval: {self.interval}")

    @property
    def kind(self) -> FigureKind:
        """Return how it is written."""
        return KINDS[self.name]

    @property
    def text(self) -> str:
        """Return the value without its unit."""
        return self.kind.text(self.value)

    @property
    def sentence(self) -> str:
        """Return ``PSNR 41.2 dB (95 % CI 40.8 to 41.6)``."""
        parts = []
        if self.interval is not None:
            low, high = map(self.kind.text, self.interval)
            parts.append(f"95 % CI {low} to {high}")
        if self.images is not None:
            parts.append(f"on {self.images} of them")
        more = f" ({', '.join(parts)})" if parts else ""
        return f"{self.kind.title} {self.text} {self.kind.unit}".rstrip() + more


def figure_named(figures: Sequence[Figure], name: str) -> Figure | None:
    """Return the figure of that name; None if it was not measured."""
    return next((figure for figure in figures if figure.name == name), None)


def rounded_figures(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """Return the figures with the digits that repeat: five of each number."""

    def five(value: float) -> float:
        return float(f"{value:.5g}")

    return tuple(
        Figure(
            figure.name,
            five(figure.value),
            None if figure.interval is None else (five(figure.interval[0]), five(figure.interval[1])),
            figure.images,
        )
        for figure in figures
    )
