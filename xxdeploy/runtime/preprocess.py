"""From a picture to the network's input: the one implementation for calibration, evaluation and the device.

``Preprocess.image`` decodes to uint8; ``Preprocess.normalise`` is the arithmetic of
``keras.applications.imagenet_utils.preprocess_input``, bit for bit.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from xxdeploy.errors import UsageError

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""A path, a PIL image, or an RGB/grey array ``(h, w, c)`` or ``(h, w)`` uint8."""

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded (268 MB as RGB): the size from which Pillow itself warns of a bomb."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Accepted file formats. Pillow knows more, and some start other programs (EPS runs Ghostscript)."""

MODES = ("tf", "caffe", "torch", "none")
RESIZES = ("squash", "crop")
MAX_SIDE = 4096

_CROP_SHARE = 0.875  # 224 of 256, the centre crop of the ImageNet papers
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # BGR
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How pictures become input for one network.

    Parameters
    ----------
    height, width
        Input size in pixels, 1 to ``MAX_SIDE``.
    channels
        3 (RGB) or 1 (grey, ITU-R 601 luma).
    mode
        ``tf``: x / 127.5 - 1. ``caffe``: RGB to BGR, minus the ImageNet means. ``torch``: x / 255,
        minus the ImageNet means, over the deviations. ``none``: 0..255 as float32.
    resize
        ``squash``: bilinear to (height, width), whatever the aspect ratio: as Keras' own example does.
        ``crop``: bilinear, so that the picture just covers round(size / 0.875), then the centre.

    Raises
    ------
    UsageError
        ``preprocess-invalid``: a value outside those above, or ``caffe``/``torch`` on one channel.
    """

    height: int
    width: int
    channels: int = 3
    mode: str = "tf"
    resize: str = "squash"

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            if type(getattr(self, name)) is not int:
                raise _invalid(f"{name} must be a whole number, not {getattr(self, name)!r}")
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise _invalid(f"the input size must be 1 to {MAX_SIDE} pixels, not {self.height} x {self.width}")
        if self.channels not in (1, 3):
            raise _invalid(f"channels must be 1 or 3, not {self.channels}")
        if self.mode not in MODES:
            raise _invalid(f"mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        if self.resize not in RESIZES:
            raise _invalid(f"resize must be one of {', '.join(RESIZES)}, not {self.resize!r}")
        if self.channels == 1 and self.mode in ("caffe", "torch"):
            raise _invalid(f"mode {self.mode!r} is defined for three channels only")

    def image(self, source: ImageLike) -> NDArray[np.uint8]:
        """Decode one picture, turn it upright, convert and resize it.

        A file and the same picture opened with Pillow give the same pixels; alpha is dropped and
        palettes are resolved as by ``convert("RGB")``, which is what Keras does; grey of 16 bits keeps its
        upper 8 (Pillow would clip it to white).

        Returns
        -------
        (height, width, channels) uint8.

        Raises
        ------
        UsageError
            Codes ``image-*``; the message names the file.
        """
        if isinstance(source, np.ndarray):
            name, picture = "image array", _picture_from_array(source)
        elif isinstance(source, Image.Image):
            name = f"image {getattr(source, 'filename', '') or ''}".strip()
            _check_pixels(name, source.size)
            picture = self._decode(source, name)
        elif isinstance(source, str | os.PathLike):
            path = Path(source)
            name = str(path)
            _check_file(path)
            try:
                opened = Image.open(path, formats=FORMATS)
            except UnidentifiedImageError as error:
                raise UsageError(
                    f"{name} is not a picture in a known format, or its header is damaged",
                    hint=f"accepted are {', '.join(FORMATS)}",
                    code="image-format",
                ) from error
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise _too_large(name, str(error)) from error
            except PermissionError as error:
                raise UsageError(
                    f"{name} cannot be read: {error.strerror}", hint="check its permissions", code="image-unreadable"
                ) from error
            except Exception as error:  # see _decode
                raise _damaged(name, error) from error
            with opened:
                _check_pixels(name, opened.size)
                picture = self._decode(opened, name)
        else:
            raise UsageError(
                f"an image must be a path, a PIL image or a uint8 array, not {type(source).__name__}",
                hint="for bytes, use PIL.Image.open(io.BytesIO(data))",
                code="image-type",
            )
        return self._fit(picture, name)

    def normalise(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (n, height, width, channels) uint8 into the network's input, same shape, float32.

        Bit-exact with ``keras.applications.imagenet_utils.preprocess_input(x, mode=mode)``: the same
        operations in the same order, all in float32.

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

    def batch(self, sources: Sequence[ImageLike]) -> NDArray[np.float32]:
        """Decode and normalise several pictures: (n, height, width, channels) float32.

        Raises
        ------
        UsageError
            ``no-images`` for an empty list, else as ``image``.
        """
        if not len(sources):
            raise UsageError("there is no image to work on", hint="give at least one image", code="no-images")
        return self.normalise(np.stack([self.image(source) for source in sources]))

    def to_json(self) -> dict[str, int | str]:
        """Return the five fields as plain values."""
        return {
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "mode": self.mode,
            "resize": self.resize,
        }

    @classmethod
    def from_json(cls, value: object) -> Preprocess:
        """Read what ``to_json`` wrote. ``UsageError`` ``preprocess-invalid`` on unknown or missing keys."""
        fields = {"height", "width", "channels", "mode", "resize"}
        if not isinstance(value, dict) or set(value) != fields:
            raise _invalid(f"it must be an object with exactly the keys {', '.join(sorted(fields))}")
        return cls(**value)

    def _decode(self, picture: Image.Image, name: str) -> Image.Image:
        target = "L" if self.channels == 1 else "RGB"
        try:
            picture.load()
            return _converted(_upright(picture), target)
        except UsageError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(name, str(error)) from error
        # Decoders meet hostile bytes here and raise nearly anything (OSError, SyntaxError, struct.error, zlib.error,
        # KeyError, MemoryError ...): whatever it is, the picture is what is wrong.
        except Exception as error:
            raise _damaged(name, error) from error

    def _fit(self, picture: Image.Image, name: str) -> NDArray[np.uint8]:
        target = "L" if self.channels == 1 else "RGB"
        if picture.mode != target:
            picture = picture.convert(target)
        if self.resize == "crop":
            picture = self._crop(picture, name)
        elif picture.size != (self.width, self.height):
            picture = picture.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(picture, np.uint8).reshape(self.height, self.width, self.channels)

    def _crop(self, picture: Image.Image, name: str) -> Image.Image:
        cover = round(self.width / _CROP_SHARE), round(self.height / _CROP_SHARE)
        scale = max(cover[0] / picture.width, cover[1] / picture.height)
        size = max(cover[0], round(picture.width * scale)), max(cover[1], round(picture.height * scale))
        _check_pixels(name, size)  # a strip of 1 x 1,000,000 pixels grows when its short side does
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        return picture.crop((left, top, left + self.width, top + self.height))


def _check_file(path: Path) -> None:
    """Refuse what is no ordinary file with content: opening a pipe would wait for ever."""
    try:
        status = path.stat()
    except PermissionError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            hint="check the permissions of its folder",
            code="image-unreadable",
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UsageError(f"there is no image {path}", hint="check the path", code="image-not-found") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is not a file", hint="give the path of one image", code="image-not-a-file")
    if status.st_size == 0:
        raise UsageError(f"{path} is empty (0 bytes)", hint="copy or download it again", code="image-empty")


def _check_pixels(name: str, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_large(name, f"{size[0]} x {size[1]} pixels")


def _picture_from_array(array: NDArray[np.uint8]) -> Image.Image:
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype != np.uint8 or not shape_ok or not array.size:
        raise UsageError(
            f"an image array must be (h, w), (h, w, 1) or (h, w, 3) uint8, not {array.shape} {array.dtype}",
            hint="0..255 RGB or grey, one image an array; drop an alpha channel with array[..., :3]",
            code="image-array",
        )
    _check_pixels("image array", (array.shape[1], array.shape[0]))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. Damaged EXIF is no reason to refuse good pixels: it counts as upright."""
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a parser on hostile bytes
        return picture
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _converted(picture: Image.Image, target: str) -> Image.Image:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        # Sixteen bits of grey (Pillow before 11 gives mode I for PNG). convert() would clip at 255.
        wide = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode in ("I", "F", "LAB"):
        raise UsageError(
            f"a picture of mode {picture.mode} has no agreed range of 0..255",
            hint="save it as 8-bit RGB or grey",
            code="image-mode",
        )
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns of palettes with transparency
    return picture.convert(target)


def _invalid(message: str) -> UsageError:
    return UsageError(
        f"preprocessing: {message}",
        hint="see docs/bundle-format.md for the five keys and their values",
        code="preprocess-invalid",
    )


def _too_large(name: str, detail: str) -> UsageError:
    return UsageError(
        f"{name} is too large to decode safely ({detail}; the limit is {MAX_PIXELS:,} pixels)",
        hint="scale the picture down first",
        code="image-too-large",
    )


def _damaged(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"{name} is damaged or cut short: {error or type(error).__name__}",
        hint="copy or download it again",
        code="image-damaged",
    )
