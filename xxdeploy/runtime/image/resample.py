"""Resampling by name: how the pixels of a picture become those of the input, with numpy and Pillow only.

Training code resizes in two ways. Filters that widen while a picture shrinks average over all of its pixels: Pillow's
(``*-antialias``) and ``area``. Filters of a fixed width read a few pixels around each place and skip the others:
``tf.image.resize``, Keras' loaders and OpenCV. A network that was trained on one kind sees other pixels under another.

``bilinear`` equals ``tf.image.resize`` to the bit. ``bicubic``, ``lanczos`` and ``area`` are within 0.001 of it, since
TensorFlow adds in another order. ``nearest`` and ``*-antialias`` are Pillow's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NEAREST = "nearest"
ANTIALIASED = "bilinear-antialias"
"""The resampling of a bundle whose manifest names none."""
RESAMPLES = (NEAREST, "bilinear", ANTIALIASED, "bicubic", "bicubic-antialias", "lanczos", "lanczos-antialias", "area")
"""All names."""
FRACTIONAL = ("bilinear", "bicubic", "lanczos", "area")
"""The names whose results have fractions, as those of ``tf.image.resize``: float32, neither rounded nor clipped."""
ANTIALIASES = {
    ANTIALIASED: Image.Resampling.BILINEAR,
    "bicubic-antialias": Image.Resampling.BICUBIC,
    "lanczos-antialias": Image.Resampling.LANCZOS,
}
"""Pillow's filters that widen, by name."""

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""Values of 0..255: uint8, or float32 with fractions. Bicubic and Lanczos go beyond that range beside edges."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the picture."""

_F32 = np.float32
STRIP = 1 << 22
"""Pixels that are copied out of a picture at a time: 16 MB."""
_BLOCK = 32
"""Rows of the result that are computed at a time: their numbers stay in a processor's cache."""
_CUBIC_STEPS = 1024
"""TensorFlow reads the cubic filter from a table with this many steps a pixel."""
_LANCZOS = 3
"""Lobes of the Lanczos filter on each side."""


class _Taps(NamedTuple):
    """For each of n places, the k pixels that are read there (n, k) intp, and their weights (n, k) float32."""

    places: NDArray[np.intp]
    weight: NDArray[np.float32]

    def of(self, first: int, last: int) -> _Taps:
        """Return the taps of some of the places."""
        return _Taps(self.places[first:last], self.weight[first:last])


_Packed = NDArray[np.uint8] | NDArray[np.uint32]
_Filter = Callable[[_Packed, _Taps, _Taps], NDArray[np.float32]]


def resample(
    picture: Image.Image,
    size: tuple[int, int],
    name: str,
    *,
    box: Box | None = None,
    part: tuple[int, int, int, int] | None = None,
) -> Pixels:
    """Bring ``picture`` (mode ``L`` or ``RGB``), or the ``box`` of it, to ``size`` (width, height).

    For the names of ``FRACTIONAL``, the sides of the box are whole numbers. ``part`` (left, top, right, bottom) is the
    part of the result that is wanted.

    Returns
    -------
    (height, width, channels): float32 for the names of ``FRACTIONAL``, unless the size is right already; else uint8.
    """
    if part is not None and name not in FRACTIONAL:
        return resample(picture, size, name, box=box)[part[1] : part[3], part[0] : part[2]]
    shape = (size[1], size[0], len(picture.getbands()))
    left, top, right, bottom = _whole(picture) if box is None else box
    if (right - left, bottom - top) == size and float(left).is_integer() and float(top).is_integer():
        if size != picture.size:
            picture = picture.crop((int(left), int(top), int(right), int(bottom)))
        kept = np.asarray(picture, np.uint8).reshape(shape)
        return kept if part is None else kept[part[1] : part[3], part[0] : part[2]]
    if name in ANTIALIASES:
        return np.asarray(_in_two_passes(picture, size, name, (left, top, right, bottom)), np.uint8).reshape(shape)
    if name == NEAREST:
        resized = picture.resize(size, Image.Resampling.NEAREST, None if box is None else (left, top, right, bottom))
        return np.asarray(resized, np.uint8).reshape(shape)
    rows, columns = _taps(name, int(bottom - top), size[1]), _taps(name, int(right - left), size[0])
    if part is not None:
        rows, columns = rows.of(part[1], part[3]), columns.of(part[0], part[2])
    picture = picture if box is None else picture.crop((int(left), int(top), int(right), int(bottom)))
    return _filtered(picture, rows, columns, _bilinear if name == "bilinear" else _separable)


def is_vertical_first(old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Return whether a filter of ``ANTIALIASES`` resizes the columns of a picture before its lines.

    ``old`` and ``new`` are (width, height). Each pass rounds, so the order changes the pixels of tall pictures by some
    steps. Pillow 13 has this rule, and older versions have others; here it holds for all of them.
    """
    return new[1] < old[1] and old[1] - new[1] > 2 * (old[0] - new[0])


def _in_two_passes(picture: Image.Image, size: tuple[int, int], name: str, box: Box) -> Image.Image:
    """Resize lines and columns one after the other, by a filter of ``ANTIALIASES``."""
    (width, height), (left, top, right, bottom) = size, box
    if is_vertical_first(picture.size, size):
        picture = picture.resize((picture.width, height), ANTIALIASES[name], (0, top, picture.width, bottom))
        return picture.resize(size, ANTIALIASES[name], (left, 0, right, height))
    picture = picture.resize((width, picture.height), ANTIALIASES[name], (left, 0, right, picture.height))
    return picture.resize(size, ANTIALIASES[name], (0, top, width, bottom))


def _whole(picture: Image.Image) -> Box:
    return 0, 0, picture.width, picture.height


def rounded(pixels: Pixels) -> NDArray[np.uint8]:
    """Return pixels as uint8: clipped to 0..255 and rounded, halves to the even number."""
    if pixels.dtype == np.uint8:
        return pixels  # type: ignore[return-value]
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def _filtered(picture: Image.Image, rows: _Taps, columns: _Taps, filter_strip: _Filter) -> NDArray[np.float32]:
    used = np.unique(columns.places)
    few = 2 * len(used) < picture.width
    if few:
        columns = _Taps(np.searchsorted(used, columns.places), columns.weight)
    channels = len(picture.getbands())
    result = np.empty((len(rows.places), len(columns.places), channels), _F32)
    for first, last in _strips(len(rows.places), picture.width * picture.height):
        upper, lower = int(rows.places[first:last].min()), int(rows.places[first:last].max()) + 1
        whole = (upper, lower) == (0, picture.height)
        part = picture if whole else picture.crop((0, upper, picture.width, lower))
        strip = _packed(part) if filter_strip is _bilinear else np.asarray(part).reshape(*part.size[::-1], channels)
        if few:
            strip = strip.take(used, 1)
        for start in range(first, last, _BLOCK):
            block = rows.of(start, min(start + _BLOCK, last))
            pixels = filter_strip(strip, _Taps(block.places - upper, block.weight), columns)
            result[start : start + len(pixels)] = pixels[..., :channels]
    return result


def _strips(height: int, pixels: int) -> Iterator[tuple[int, int]]:
    """Yield first and last row of parts of the result, each made from about ``STRIP`` of the picture's ``pixels``."""
    step = max(1, min(height, height * STRIP // pixels))
    return ((first, min(first + step, height)) for first in range(0, height, step))


def _packed(picture: Image.Image) -> _Packed:
    """Return (height, width): uint8, or the three bytes of a color and one of no meaning as uint32, for one copy."""
    if picture.mode == "L":
        return np.asarray(picture, np.uint8)
    return np.frombuffer(picture.tobytes("raw", "RGBX"), np.uint32).reshape(picture.height, picture.width)


def _unpacked(packed: _Packed) -> NDArray[np.float32]:
    """Return (height, width * bytes) float32."""
    return np.ascontiguousarray(packed).view(np.uint8).reshape(len(packed), -1).astype(_F32)


def _bilinear(strip: _Packed, rows: _Taps, columns: _Taps) -> NDArray[np.float32]:
    """Interpolate first in x, then in y, in the order of TensorFlow's ``ResizeBilinear``."""
    count, each = len(rows.places), strip.itemsize
    lines = strip.take(rows.places.T.ravel(), 0)  # the upper line of each place, then the lower ones
    x = _unpacked(lines.take(columns.places[:, 0], 1))
    right = _unpacked(lines.take(columns.places[:, 1], 1))
    right -= x
    right *= columns.weight[:, 1].repeat(each)
    x += right
    upper, lower = x[:count], x[count:]
    lower -= upper
    lower *= rows.weight[:, 1:]
    upper += lower
    return upper.reshape(count, -1, each)


def _separable(strip: _Packed, rows: _Taps, columns: _Taps) -> NDArray[np.float32]:
    """Add up weighted lines, then weighted columns. ``strip`` is (height, width, channels) uint8."""
    each = strip.shape[2]
    lines = np.zeros((len(rows.places), strip.shape[1] * each), _F32)
    for index, weight in zip(rows.places.T, rows.weight.T, strict=True):
        taken = _unpacked(strip.take(index, 0))
        taken *= weight[:, None]
        lines += taken
    cells = lines.reshape(len(lines), -1, each)
    total = np.zeros((len(lines), len(columns.places) * each), _F32)
    for index, weight in zip(columns.places.T, columns.weight.T, strict=True):
        taken = cells.take(index, 1).reshape(total.shape)
        taken *= weight.repeat(each)
        total += taken
    return total.reshape(len(lines), -1, each)


@lru_cache(maxsize=256)
def _taps(name: str, old: int, new: int) -> _Taps:
    """Return the taps of one axis. Cached: the pictures of a camera all have one size."""
    return {"bilinear": _linear_taps, "bicubic": _cubic_taps, "lanczos": _lanczos_taps, "area": _area_taps}[name](
        old, new
    )


def _places(old: int, new: int) -> NDArray[np.float32]:
    """Return the place of each new pixel among the old ones, half-pixel centers, in TensorFlow's float32."""
    places: NDArray[np.float32] = (np.arange(new, dtype=_F32) + _F32(0.5)) * (_F32(old) / _F32(new)) - _F32(0.5)
    return places


def _linear_taps(old: int, new: int) -> _Taps:
    places = _places(old, new)
    lower = np.floor(places)
    share = places - lower
    index = np.stack([np.maximum(lower, 0), np.minimum(np.ceil(places), old - 1)], 1)
    return _Taps(index.astype(np.intp), np.stack([1 - share, share], 1))


def _cubic_taps(old: int, new: int) -> _Taps:
    """Return the taps of Keys' cubic with a = -0.5 (Keys, 1981); pixels outside the picture have no weight."""
    places = _places(old, new)
    lower = np.floor(places)
    share = np.rint((places - lower) * _F32(_CUBIC_STEPS)) / _CUBIC_STEPS
    offsets = np.arange(-1, 3)
    far = np.abs(share[:, None] - offsets).astype(np.float64)
    weight = np.where(far <= 1, (1.5 * far - 2.5) * far * far + 1, ((-0.5 * far + 2.5) * far - 4) * far + 2)
    return _inside(lower.astype(np.intp)[:, None] + offsets, weight, old)


def _lanczos_taps(old: int, new: int) -> _Taps:
    """Return the taps of the sinc with a sinc window of three lobes (Duchon, 1979)."""
    places = (np.arange(new, dtype=_F32) + _F32(0.5)) * (_F32(1) / (_F32(new) / _F32(old))) - _F32(0.5)
    index = np.floor(places).astype(np.intp)[:, None] + np.arange(1 - _LANCZOS, _LANCZOS + 1)
    far = np.abs(index - places[:, None].astype(np.float64))
    return _inside(index, np.where(far < _LANCZOS, np.sinc(far) * np.sinc(far / _LANCZOS), 0), old)


def _area_taps(old: int, new: int) -> _Taps:
    """Return the taps of an average over the old pixels, in parts, that a new pixel covers."""
    scale = _F32(old) / _F32(new)
    edges = np.arange(new + 1, dtype=_F32) * scale
    first, last = edges[:-1, None], edges[1:, None]
    index = np.floor(first).astype(np.intp) + np.arange(int((np.ceil(last) - np.floor(first)).max()))
    covered = np.clip(np.minimum(index + 1, last) - np.maximum(index, first), 0, None)
    covered[(index < first) & (index + 1 > last)] = scale  # a new pixel inside an old one: without cancellation
    return _Taps(index.clip(0, old - 1), (covered / scale).astype(_F32))


def _inside(index: NDArray[np.intp], weight: NDArray[np.float64], old: int) -> _Taps:
    """Drop the taps outside the picture, and let the weights of each place add up to 1."""
    weight = np.where((index >= 0) & (index < old), weight, 0)
    return _Taps(index.clip(0, old - 1), (weight / weight.sum(1, keepdims=True)).astype(_F32))
