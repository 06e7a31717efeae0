"""From a picture to the network's input: the one implementation for calibration, evaluation and the device.

``Preprocess.image`` decodes to uint8; ``Preprocess.normalize`` is the arithmetic of
``keras.applications.imagenet_utils.preprocess_input``, bit for bit, or a ``Scaling`` of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.grid import ChannelGrid
from xxdeploy.runtime.image.picture import BACKGROUNDS, DROP, MAX_PIXELS, ImageLike, open_unturned
from xxdeploy.runtime.image.resample import Pixels
from xxdeploy.runtime.image.scaling import Scaling
from xxdeploy.runtime.image.scaling import invalid as _invalid
from xxdeploy.runtime.image.sizing import DEFAULT_SIZING, Sizing
from xxdeploy.runtime.image.turned import is_worth_strips, resample_turned

__all__ = ["CUSTOM", "MAX_PIXELS", "MAX_SIDE", "MODES", "ImageLike", "Preprocess", "Sizing"]

MODES = ("tf", "caffe", "torch", "none")
CUSTOM = "custom"
"""The mode of a ``Preprocess`` with a ``Scaling``."""
MAX_SIDE = 4096

_FIELDS = ("height", "width", "channels", "mode")
_OPTIONAL = ("resample", "crop_fraction", "pad_color", "background")
_UINT8, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # BGR
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How pictures become input for one network.

    Parameters
    ----------
    height, width
        Input size in pixels, 1 to ``MAX_SIDE``.
    channels
        3 (RGB) or 1 (gray, ITU-R 601 luma).
    mode
        ``tf``: x / 127.5 - 1. ``caffe``: RGB to BGR, minus the ImageNet means. ``torch``: x / 255,
        minus the ImageNet means, over the deviations. ``none``: 0..255 as float32. ``custom``: ``scaling``.
    sizing
        How a picture of another size is brought to size; by default squashed, by Pillow's bilinear filter. The
        example of Keras' own networks (``load_img(path, target_size=(224, 224))``) is ``resample="nearest"``.
    scaling
        For mode ``custom``, with one value a channel, and for no other mode.
    background
        What shows through transparent pixels: ``white``, ``black``, or with ``drop`` the color that is stored under
        them, as in Keras.

    Raises
    ------
    UsageError
        ``preprocess-invalid``: a value outside those above, ``caffe``/``torch`` on one channel, or a scaling
        or a color does not fit the mode or the channels.
    """

    height: int
    width: int
    channels: int = 3
    mode: str = "tf"
    sizing: Sizing = DEFAULT_SIZING
    scaling: Scaling | None = None
    background: str = DROP

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            if type(getattr(self, name)) is not int:
                raise _invalid(f"{name} must be a whole number, not {getattr(self, name)!r}")
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise _invalid(f"the input size must be 1 to {MAX_SIDE} pixels, not {self.height} x {self.width}")
        if self.channels not in (1, 3):
            raise _invalid(f"channels must be 1 or 3, not {self.channels}")
        if self.mode not in (*MODES, CUSTOM):
            raise _invalid(f"mode must be one of {', '.join((*MODES, CUSTOM))}, not {self.mode!r}")
        if (self.mode == CUSTOM) != (self.scaling is not None):
            raise _invalid(f"mode {self.mode!r} {'needs a' if self.mode == CUSTOM else 'has no'} scaling")
        if self.scaling is not None and len(self.scaling.mean) != self.channels:
            raise _invalid(f"the scaling has {len(self.scaling.mean)} values, the picture {self.channels} channels")
        color = self.sizing.pad_color
        if color is not None and len(color) not in (1, self.channels):
            raise _invalid(f"pad_color has {len(color)} values, and the picture has {self.channels} channel")
        if self.background not in BACKGROUNDS:
            raise _invalid(f"background must be one of {', '.join(BACKGROUNDS)}, not {self.background!r}")
        if self.channels == 1 and self.mode in ("caffe", "torch"):
            raise _invalid(f"mode {self.mode!r} is defined for three channels only")

    def image(self, source: ImageLike, *, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Decode one picture, turn it upright, convert and resize it.

        More than ``max_pixels`` are refused before they are decoded. A file and the same picture opened with Pillow
        have the same pixels; ``picture.open_unturned`` says how modes are converted.

        Returns
        -------
        (height, width, channels): uint8, or float32 where ``sizing.has_fractions`` and the size changed.

        Raises
        ------
        UsageError
            Codes ``image-*``, see ``picture.open_unturned``; the message names the file.
        """
        if self._is_ready(source) and self.height * self.width <= max_pixels:
            return np.array(source, np.uint8)  # Pillow would hand back the same pixels, after three copies
        mode, size, sizing = "L" if self.channels == 1 else "RGB", (self.width, self.height), self.sizing
        picture, name, turn = open_unturned(source, mode, max_pixels, self.background)
        if turn is not None:
            if sizing.resize == "squash" and is_worth_strips(picture, turn, size, sizing.resample):
                return resample_turned(picture, turn, size, sizing.resample)
            picture = picture.transpose(turn)
        return sizing.apply(picture, size, name)

    def normalize(self, images: Pixels) -> NDArray[np.float32]:
        """Turn (n, height, width, channels) of 0..255 into the network's input, same shape, float32.

        The pixels are uint8, or float32 where ``sizing.has_fractions``: the loaders of Keras do not round either.

        Bit-exact with ``keras.applications.imagenet_utils.preprocess_input(x, mode=mode)``: the same
        operations in the same order, all in float32. For ``custom``, see ``Scaling.apply``.

        Raises
        ------
        UsageError
            ``batch-shape``: another shape or dtype.
        """
        expected = (self.height, self.width, self.channels)
        right = images.dtype == _UINT8 or (images.dtype == _FLOAT32 and self.sizing.has_fractions)
        if not right or images.ndim != 4 or images.shape[1:] != expected:
            raise UsageError(
                f"a batch must be (n, {', '.join(map(str, expected))}) uint8, not {images.shape} {images.dtype}",
                hint="let Preprocess.batch() or .image() make it",
                code="batch-shape",
            )
        if self.scaling is not None:
            return self.scaling.apply(images)
        if self.mode == "caffe":
            images = images[..., ::-1]
        x = images.astype(np.float32, order="C")
        if self.mode == "tf":
            x /= 127.5
            x -= 1.0
        elif self.mode == "torch":
            x /= 255.0
            x -= _TORCH_MEAN
            x /= _TORCH_STD
        elif self.mode == "caffe":
            x -= _CAFFE_MEAN
        return x

    @property
    def grid(self) -> tuple[float, float] | None:
        """(step, center) where the input is ``(pixel - center) * step`` for every channel alike, else None."""
        if self.mode == "tf":
            return 1 / 127.5, 127.5
        return (1.0, 0.0) if self.mode == "none" else None

    @property
    def channel_grid(self) -> ChannelGrid | None:
        """The same where each channel is scaled by itself, else None."""
        if self.mode == "caffe":
            return ChannelGrid(tuple(map(float, _CAFFE_MEAN)), (1.0, 1.0, 1.0), flip=True)
        if self.mode == "torch":
            mean, deviation = ((255 * values.astype(np.float64)).tolist() for values in (_TORCH_MEAN, _TORCH_STD))
            return ChannelGrid(tuple(mean), tuple(deviation))
        if self.scaling is None:
            return None
        scale, flip = self.scaling.scale, self.scaling.order == "bgr"
        mean, deviation = ([value / scale for value in values] for values in (self.scaling.mean, self.scaling.std))
        return ChannelGrid(tuple(mean), tuple(deviation), flip)

    def pixels(self, sources: Sequence[ImageLike], *, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Decode several pictures: (n, height, width, channels), uint8 or float32 as ``image``. Errors as ``batch``."""
        if not len(sources):
            raise UsageError("there is no image to work on", hint="give at least one image", code="no-images")
        if len(sources) == 1:
            only = sources[0]
            if self._is_ready(only) and self.height * self.width <= max_pixels:
                return np.ascontiguousarray(only)[np.newaxis]  # not copied: it is only read
            return self.image(only, max_pixels=max_pixels)[np.newaxis]
        images: list[NDArray[Any]] = [self.image(source, max_pixels=max_pixels) for source in sources]
        return np.stack(images)

    def batch(self, sources: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Decode and normalize several pictures: (n, height, width, channels) float32.

        Raises
        ------
        UsageError
            ``no-images`` for an empty list, else as ``image``.
        """
        return self.normalize(self.pixels(sources))

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain values, those of ``sizing`` beside the others; ``scaling`` if there is one.

        ``background`` is there unless it is ``drop``.
        """
        fields: dict[str, object] = {**{key: getattr(self, key) for key in _FIELDS}, **self.sizing.to_json()}
        if self.background != DROP:
            fields["background"] = self.background
        return fields if self.scaling is None else {**fields, "scaling": self.scaling.to_json()}

    @classmethod
    def from_json(cls, value: object) -> Preprocess:
        """Read what ``to_json`` wrote. ``UsageError`` ``preprocess-invalid`` on unknown or missing keys."""
        is_custom = isinstance(value, dict) and value.get("mode") == CUSTOM
        fields = {*_FIELDS, "resize", *(("scaling",) if is_custom else ())}
        if not isinstance(value, dict) or not fields <= set(value) <= {*fields, *_OPTIONAL}:
            raise _invalid(
                f"it must be an object with the keys {', '.join(sorted(fields))} and at most {', '.join(_OPTIONAL)}"
            )
        sizing = Sizing.from_json({key: value[key] for key in ("resize", *_OPTIONAL[:-1]) if key in value})
        scaling = Scaling.from_json(value["scaling"]) if is_custom else None
        return cls(
            **{key: value[key] for key in _FIELDS},
            sizing=sizing,
            scaling=scaling,
            background=value.get("background", DROP),
        )

    @property
    def is_new(self) -> bool:
        """Whether a reader of manifest schemas 1 and 2 would not know it."""
        return self.sizing.is_new or self.background != DROP

    def _is_ready(self, source: ImageLike) -> bool:
        """Tell whether an array holds the input's pixels already."""
        if not isinstance(source, np.ndarray) or source.dtype != _UINT8 or not self.sizing.keeps_the_right_size:
            return False
        return source.shape == (self.height, self.width, self.channels)
