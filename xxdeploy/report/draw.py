"""How a page shows numbers, plots and pictures, and its templates. A number takes None where nothing was measured."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.optional import extra
from xxdeploy.results.domain import percent as share
from xxdeploy.runtime.image.picture import ImageLike, open_picture
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import InputForm, Sample, SeveralInputs, parts_of

if TYPE_CHECKING:
    from jinja2 import Environment

_QUALITY = 70
_MOST_DOTS = 60


def bars(rows: Sequence[tuple[str, float, str]]) -> list[dict[str, Any]]:
    """Return rows of (name, value, text) as bars; the largest value fills the row."""
    largest = max((value for _, value, _ in rows), default=0.0) or 1.0
    return [
        {"name": name, "width": round(100 * max(value, 0.0) / largest, 1), "text": text} for name, value, text in rows
    ]


def interval(bounds: Sequence[float], middle: float, low: float, high: float) -> dict[str, float]:
    """Return the positions of an interval and its middle on an axis ``low``..``high``, widened to hold them."""
    low, high = min(low, bounds[0], middle), max(high, bounds[1], middle)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1)

    return {"left": place(bounds[0]), "right": place(bounds[1]), "middle": place(middle), "low": low, "high": high}


def strips(rows: Sequence[tuple[str, Sequence[float]]]) -> dict[str, Any]:
    """Return each row's values as dots on one logarithmic axis, with its p50, p90 and p99.

    On a linear axis a single outlier would push all other dots into a corner.
    """
    rows = [(name, sorted(values)) for name, values in rows if len(values) > 1 and min(values) > 0]
    if not rows:
        return {"rows": [], "ticks": []}
    low = math.log10(min(values[0] for _, values in rows)) - 0.03
    high = math.log10(max(values[-1] for _, values in rows)) + 0.03

    def place(value: float) -> float:
        return round(100 * (math.log10(value) - low) / (high - low), 2)

    drawn = []
    for name, values in rows:
        cuts = quantiles(values, n=100, method="inclusive")
        dots = [place(value) for value in values[:: -(-len(values) // _MOST_DOTS)]]
        middle, p90, p99 = cuts[49], cuts[89], cuts[98]
        drawn.append({"name": name, "dots": dots, "p50": middle, "p90": p90, "p99": p99, "at": place(middle)})
    return {"rows": drawn, "ticks": [{"at": place(value), "text": f"{value:g}"} for value in _ticks(low, high)]}


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers on the axis."""
    steps = [1, 2, 5] if high - low < 2 else [1]
    every = [base * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for base in steps]
    return [value for value in every if low <= math.log10(value) <= high]


def data_uri(source: ImageLike, size: int, mode: str = "RGB") -> str:
    """Return a picture, often a file's path, at most ``size`` pixels wide and high, as the data URI of a small JPEG.

    The picture is decoded as for calibration, with the same limits. The text is empty where that fails: a report can
    do without a picture.
    """
    try:
        picture, _ = open_picture(source, mode)
    except UsageError:
        return ""
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return _jpeg(picture)


def sample_uri(form: InputForm, sample: Sample, size: int) -> str:
    """Return the pictures of a sample side by side, as :func:`data_uri` returns one; empty without a picture."""
    values = sample if isinstance(form, SeveralInputs) else (sample,)
    pairs = [
        (part, value) for (_, part), value in zip(parts_of(form), values, strict=True) if isinstance(part, Preprocess)
    ]
    if len(pairs) == 1:
        part, value = pairs[0]
        return data_uri(value, size, "L" if part.channels == 1 else "RGB")
    pictures = []
    for _, value in pairs:
        try:
            pictures.append(open_picture(value, "RGB")[0])
        except UsageError:
            return ""
        pictures[-1].thumbnail((size, size), Image.Resampling.LANCZOS)
    if not pictures:
        return ""
    row = Image.new("RGB", (sum(each.width for each in pictures), max(each.height for each in pictures)), "white")
    for index, each in enumerate(pictures):
        row.paste(each, (sum(before.width for before in pictures[:index]), 0))
    return _jpeg(row)


def _jpeg(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


NOTHING = "-"


def _writer(text: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: NOTHING if value is None else text(value)


percent = _writer(lambda share: f"{round(100 * share, 1) + 0.0:.1f}")
points = _writer(lambda change: f"{round(100 * change, 1) + 0.0:+.1f}")
"""Percent and points take a share or a change in 0..1."""
megabytes = _writer(lambda size: f"{size / 1e6:.1f} MB")
milliseconds = _writer(lambda time: f"{time:.{0 if time >= 100 else 1 if time >= 10 else 2}f} ms")
seconds = _writer(lambda time: f"{time:.1f} s" if time < 100 else f"{time:.0f} s")
small = _writer(lambda difference: f"{difference:.1e}")
decibel = _writer(lambda value: f"{value:.1f} dB")
ratio = _writer(lambda value: f"{value:.2f}x")


def environment() -> Environment:
    """Return the templates' environment, with the writers above as filters: text is escaped, unknown names fail.

    jinja2 is imported here, so that a device without it finds the page that a bundle brings.
    """
    with extra("report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    made = Environment(
        loader=PackageLoader("xxdeploy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "points": points, "megabytes": megabytes, "milliseconds": milliseconds}
    made.filters |= {"seconds": seconds, "small": small, "decibel": decibel, "ratio": ratio, "share": share}
    return made


def render(template: str, **values: Any) -> str:
    """Return a page, with ``?`` for bytes of a file's name that are not UTF-8."""
    return environment().get_template(template).render(**values).encode("utf-8", "replace").decode()
