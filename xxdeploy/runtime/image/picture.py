"""From a path, a Pillow image or an array to upright pixels in one mode; hostile files end here."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from xxdeploy.errors import UsageError

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""A path, a PIL image, or an RGB/gray array ``(h, w, c)`` or ``(h, w)`` uint8."""

MAX_LENGTH = 4_000_000
"""Pixels of a side. The filter that brings a strip of 24,000,000 x 1 to size takes 30 bytes a pixel."""
MAX_PIXELS = 89_478_485
"""Largest picture that is decoded (268 MB as RGB): the size from which Pillow itself warns of a bomb."""

HAS_AVIF = tuple(map(int, PIL.__version__.split(".")[:2])) >= (11, 3)
"""Whether this Pillow knows AVIF; one that was built without libavif still cannot read it."""
SUFFIXES: Mapping[str, str] = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **({".avif": "AVIF"} if HAS_AVIF else {}),
}
"""Suffixes of the files that count as pictures in a folder, and their formats. A file that is named is read by its
content, whatever its suffix is."""
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
"""Accepted file formats. Pillow knows more, and some start other programs (EPS runs Ghostscript)."""
DROP = "drop"
BACKGROUNDS = (DROP, "white", "black")
"""What shows through transparent pixels; ``drop``: the color that is stored under them."""
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
HEIC_HINT = (
    "save it as JPEG (on an iPhone: Settings, Camera, Formats, Most Compatible); or pip install pillow-heif, call "
    "pillow_heif.register_heif_opener() and give the picture that PIL.Image.open returns"
)

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")

_WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa")
_WITH_A_KEY = ("1", "L", "P", "RGB")
"""Modes in which a color may be marked as transparent."""
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


def open_picture(
    source: ImageLike, mode: str, max_pixels: int = MAX_PIXELS, background: str = DROP
) -> tuple[Image.Image, str]:
    """Decode ``source``, turn it upright (EXIF) and convert it to ``mode``: as :func:`open_unturned`, and turned.

    Returns the picture, and its name in errors.
    """
    picture, name, turn = open_unturned(source, mode, max_pixels, background)
    return (picture if turn is None else picture.transpose(turn)), name


def open_unturned(
    source: ImageLike, mode: str, max_pixels: int = MAX_PIXELS, background: str = DROP
) -> tuple[Image.Image, str, Image.Transpose | None]:
    """Decode ``source`` and convert it to ``mode`` (``L`` or ``RGB``).

    Transparent pixels are laid over ``background`` (``white`` or ``black``); with ``drop`` they show the color that is
    stored under the transparency, as by ``convert("RGB")``, which is what Keras and TensorFlow do. Gray of 16 bits
    keeps its upper 8 (Pillow would clip it to white).

    Returns
    -------
    The picture, its name in errors, and the turn that makes it upright by its EXIF orientation (None: it is).

    Raises
    ------
    UsageError
        ``image-not-found``, ``image-not-a-file``, ``image-unreadable``, ``image-empty``, ``image-format``,
        ``image-heic``, ``image-damaged``, ``image-too-large``, ``image-mode``, ``image-array``, ``image-type``.
    """
    turn = None
    if isinstance(source, np.ndarray):
        name, picture = "image array", _picture_from_array(source, max_pixels).convert(mode)
    elif isinstance(source, Image.Image):
        name = f"image {getattr(source, 'filename', '') or ''}".strip()
        check_pixels(name, source.size, max_pixels)
        picture, turn = _decoded(source, mode, name, background)
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = str(path)
        _check_file(path)
        try:
            opened = Image.open(path, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise _unknown_format(path) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(name, str(error)) from error
        except PermissionError as error:
            raise _unreadable(path, error, "check its permissions") from error
        except Exception as error:  # see _decoded
            raise _damaged(name, error) from error
        with opened:
            check_pixels(name, opened.size, max_pixels)
            picture, turn = _decoded(opened, mode, name, background)
    else:
        raise UsageError(
            f"an image must be a path, a PIL image or a uint8 array, not {type(source).__name__}",
            hint="for bytes, use PIL.Image.open(io.BytesIO(data))",
            code="image-type",
        )
    return picture, name, turn


def check_pixels(name: str, size: tuple[int, int], most: int = MAX_PIXELS) -> None:
    """Refuse more than ``most`` pixels, code ``image-too-large``."""
    if max(size) > MAX_LENGTH:
        raise UsageError(
            f"{name} is {size[0]} x {size[1]} pixels, which no picture is: the limit of a side is {MAX_LENGTH:,}",
            hint="cut it into pieces",
            code="image-too-large",
        )
    if size[0] * size[1] > most:
        raise _too_large(name, f"{size[0]} x {size[1]} pixels", most)


def _decoded(picture: Image.Image, mode: str, name: str, background: str) -> tuple[Image.Image, Image.Transpose | None]:
    try:
        picture.load()
        if not (picture.width and picture.height):
            raise ValueError("it has no pixels")
        return _converted(_opaque(picture, background), mode), _turn(picture)
    except UsageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    # Decoders meet hostile bytes here and raise nearly anything (OSError, SyntaxError, struct.error, zlib.error,
    # KeyError, MemoryError ...): all of them mean that the picture is damaged.
    except Exception as error:
        raise _damaged(name, error) from error


def _check_file(path: Path) -> None:
    """Refuse everything but a regular file with content: opening a pipe would wait forever."""
    try:
        status = path.stat()
    except PermissionError as error:
        raise _unreadable(path, error, "check the permissions of its folder") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise UsageError(f"there is no image {path}", hint="check the path", code="image-not-found") from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{path} is not a file", hint="give the path of one image", code="image-not-a-file")
    if status.st_size == 0:
        raise UsageError(f"{path} is empty (0 bytes)", hint="copy or download it again", code="image-empty")


def _picture_from_array(array: NDArray[np.uint8], max_pixels: int) -> Image.Image:
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype != np.uint8 or not shape_ok or not array.size:
        raise UsageError(
            f"an image array must be (h, w), (h, w, 1) or (h, w, 3) uint8, not {array.shape} {array.dtype}",
            hint="0..255 RGB or gray, one image an array; drop an alpha channel with array[..., :3]",
            code="image-array",
        )
    check_pixels("image array", (array.shape[1], array.shape[0]), max_pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """Return the turn by the EXIF orientation. Damaged EXIF is no reason to refuse good pixels: None."""
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a parser on hostile bytes
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _opaque(picture: Image.Image, background: str) -> Image.Image:
    """Lay a transparent picture over the background, unless that is ``drop``; others stay as they are."""
    keyed = picture.mode in _WITH_A_KEY and "transparency" in picture.info
    if background == DROP or not (keyed or picture.mode in _WITH_ALPHA):
        return picture
    layer = picture.convert("RGBA")
    result = Image.new("RGB", layer.size, background)
    result.paste(layer, mask=layer.getchannel("A"))
    return result


def _converted(picture: Image.Image, target: str) -> Image.Image:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        # Sixteen bits of gray (Pillow before 11 gives mode I for PNG). convert() would clip at 255.
        wide = np.asarray(picture)  # uint16, or int32: shifted as it is, since wider would take eight bytes a pixel
        picture = Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode in ("I", "F", "LAB"):
        raise UsageError(
            f"a picture of mode {picture.mode} has no agreed range of 0..255",
            hint="save it as 8-bit RGB or gray",
            code="image-mode",
        )
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns of palettes with transparency
    return picture if picture.mode == target else picture.convert(target)  # convert() would copy it: 4 bytes a pixel


def _too_large(name: str, detail: str, most: int = MAX_PIXELS) -> UsageError:
    return UsageError(
        f"{name} is too large to decode safely ({detail}; the limit is {most:,} pixels)",
        hint="scale the picture down first; on a device with memory for it, load(..., max_pixels=...)",
        code="image-too-large",
    )


def _unknown_format(path: Path) -> UsageError:
    """Say which format a file has that Pillow did not identify, if its first bytes tell."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        start = b""
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in _HEIC_BRANDS:
        return UsageError(f"{path} is a HEIC picture, which Pillow cannot read", hint=HEIC_HINT, code="image-heic")
    if brand in _AVIF_BRANDS:
        message = f"{path} is an AVIF picture, which Pillow {PIL.__version__} cannot read here"
        return UsageError(message, hint="pip install 'pillow>=11.3', or save it as JPEG", code="image-format")
    return UsageError(
        f"{path} is not a picture in a known format, or its header is damaged",
        hint=f"accepted are {', '.join(FORMATS)}",
        code="image-format",
    )


def _unreadable(path: Path, error: OSError, hint: str) -> UsageError:
    return UsageError(f"{path} cannot be read: {error.strerror}", hint=hint, code="image-unreadable")


def _damaged(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"{name} is damaged or cut short: {error or type(error).__name__}",
        hint="copy or download it again",
        code="image-damaged",
    )
