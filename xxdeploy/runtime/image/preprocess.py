"""From a picture to the network's input: the one implementation for calibration, evaluation and the device.

``Preprocess.image`` decodes to uint8; ``Preprocess.normalize`` is the arithmetic of
``keras.applications.imagenet_utils.preprocess_input``, bit for bit, or a ``Scaling`` of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.grid import ChannelGrid
from xxdeploy.runtime.image.picture import MAX_PIXELS, ImageLike, check_pixels, open_picture
from xxdeploy.runtime.image.scaling import Scaling
from xxdeploy.runtime.image.scaling import invalid as _invalid

__all__ = ["CUSTOM", "MAX_PIXELS", "MAX_SIDE", "MODES", "RESIZES", "ImageLike", "Preprocess"]

MODES = ("tf", "caffe", "torch", "none")
CUSTOM = "custom"
"""The mode of a ``Preprocess`` with a ``Scaling``."""
RESIZES = ("squash", "crop")
MAX_SIDE = 4096

_FIELDS = ("height", "width", "channels", "mode", "resize")
_UINT8 = np.dtype(np.uint8)
_CROP_SHARE = 0.875  # 224 of 256, the center crop of the ImageNet papers
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
    resize
        ``squash``: bilinear to (height, width), whatever the aspect ratio: as Keras' own example does.
        ``crop``: bilinear, so that the picture just covers round(size / 0.875), then the center.
    scaling
        For mode ``custom``, with one value a channel, and for no other mode.

    Raises
    ------
    UsageError
        ``preprocess-invalid``: a value outside those above, ``caffe``/``torch`` on one channel, or a scaling that
        does not fit the mode or the channels.
    """

    height: int
    width: int
    channels: int = 3
    mode: str = "tf"
    resize: str = "squash"
    scaling: Scaling | None = None

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
        if self.resize not in RESIZES:
            raise _invalid(f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}")
        if self.channels == 1 and self.mode in ("caffe", "torch"):
            raise _invalid(f"mode {self.mode!r} is defined for three channels only")

    def image(self, source: ImageLike, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Decode one picture, turn it upright, convert and resize it.

        More than ``max_pixels`` are refused before they are decoded. A file and the same picture opened with Pillow
        have the same pixels; ``picture.open_picture`` says how modes are converted.

        Returns
        -------
        (height, width, channels) uint8.

        Raises
        ------
        UsageError
            Codes ``image-*``, see ``picture.open_picture``; the message names the file.
        """
        if self._is_ready(source) and self.height * self.width <= max_pixels:
            return np.array(source, np.uint8)  # Pillow would hand back the same pixels, after three copies
        picture, name = open_picture(source, "L" if self.channels == 1 else "RGB", max_pixels)
        return self._fit(picture, name)

    def normalize(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (n, height, width, channels) uint8 into the network's input, same shape, float32.

        Bit-exact with ``keras.applications.imagenet_utils.preprocess_input(x, mode=mode)``: the same
        operations in the same order, all in float32. For ``custom``, see ``Scaling.apply``.

        Raises
        ------
        UsageError
            ``batch-shape``: another shape or dtype.
        """
        expected = (self.height, self.width, self.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
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

    def pixels(self, sources: Sequence[ImageLike], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Decode several pictures: (n, height, width, channels) uint8. Errors as ``batch``."""
        if not len(sources):
            raise UsageError("there is no image to work on", hint="give at least one image", code="no-images")
        if len(sources) == 1:
            only = sources[0]
            if self._is_ready(only) and self.height * self.width <= max_pixels:
                return np.ascontiguousarray(only)[np.newaxis]  # not copied: it is only read
            return self.image(only, max_pixels=max_pixels)[np.newaxis]
        return np.stack([self.image(source, max_pixels=max_pixels) for source in sources])

    def batch(self, sources: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Decode and normalize several pictures: (n, height, width, channels) float32.

        Raises
        ------
        UsageError
            ``no-images`` for an empty list, else as ``image``.
        """
        return self.normalize(self.pixels(sources))

    def to_json(self) -> dict[str, object]:
        """Return the five fields as plain values, and ``scaling`` if there is one."""
        fields: dict[str, object] = {key: getattr(self, key) for key in _FIELDS}
        return fields if self.scaling is None else {**fields, "scaling": self.scaling.to_json()}

    @classmethod
    def from_json(cls, value: object) -> Preprocess:
        """Read what ``to_json`` wrote. ``UsageError`` ``preprocess-invalid`` on unknown or missing keys."""
        is_custom = isinstance(value, dict) and value.get("mode") == CUSTOM
        fields = {*_FIELDS, "scaling"} if is_custom else {*_FIELDS}
        if not isinstance(value, dict) or set(value) != fields:
            raise _invalid(f"it must be an object with exactly the keys {', '.join(sorted(fields))}")
        if "scaling" not in value:
            return cls(**value)
        return cls(**{**value, "scaling": Scaling.from_json(value["scaling"])})

    def _is_ready(self, source: ImageLike) -> bool:
        """Tell whether an array holds the input's pixels already."""
        if not isinstance(source, np.ndarray) or source.dtype != _UINT8 or self.resize != "squash":
            return False
        return source.shape == (self.height, self.width, self.channels)

    def _fit(self, picture: Image.Image, name: str) -> NDArray[np.uint8]:
        if self.resize == "crop":
            picture = self._crop(picture, name)
        elif picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(self.height, self.width, self.channels)

    def _crop(self, picture: Image.Image, name: str) -> Image.Image:
        cover = round(self.width / _CROP_SHARE), round(self.height / _CROP_SHARE)
        scale = max(cover[0] / picture.width, cover[1] / picture.height)
        size = max(cover[0], round(picture.width * scale)), max(cover[1], round(picture.height * scale))
        check_pixels(name, size)  # a strip of 1 x 1,000,000 pixels grows when its short side does
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        return picture.crop((left, top, left + self.width, top + self.height))
