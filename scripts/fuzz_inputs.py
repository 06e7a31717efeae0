"""Malformed inputs for ``fuzz.py``: valid inputs of each kind, and seeded mutations of them.

Bytes are mutated as by AFL (bits, interesting numbers, blocks that are moved, cut and doubled); JSON also by its
structure.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

NASTY_TEXT = (
    "", "..", "../../etc/passwd", "/etc/passwd", "C:\\x", "con", "a" * 5000, "\0", "\x1b[2J", "\ud800", "e\u0301",
    "\u00e9", "\u202e", "MANIFEST.JSON", "model.onnx/", "./model.onnx", "a//b", "-rf", "\uff0e\uff0e/x",
    "model.onnx\n",
)  # fmt: skip
NASTY_NUMBERS = (-1, 0, 1, 255, 256, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 10**400, 0.5, -0.0, 1e308, True)
_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def spoil(data: bytes, chance: random.Random, other: bytes = b"") -> bytes:
    """Return ``data`` with one to eight changes; blocks may come from ``other``."""
    found = bytearray(data)
    for _ in range(1 + int(chance.expovariate(0.6)) % 8):
        # The cube puts most changes into the header.
        at = int(chance.random() ** 3 * max(len(found) - 1, 0))
        match chance.randrange(9):
            case 0 if found:
                found[at] ^= 1 << chance.randrange(8)
            case 1 if found:
                found[at] = chance.randrange(256)
            case 2:
                kind = chance.choice(("<H", ">H", "<I", ">I"))
                word = chance.choice(_WORDS) & ((1 << 8 * struct.calcsize(kind)) - 1)
                found[at : at + struct.calcsize(kind)] = struct.pack(kind, word)
            case 3:
                del found[int(chance.random() * len(found)) :]
            case 4:
                del found[at : at + 1 + chance.randrange(64)]
            case 5:
                found[at:at] = chance.randbytes(1 + chance.randrange(32))
            case 6:
                block = found[at : at + 1 + chance.randrange(200)]
                found[at:at] = block * chance.choice((1, 2, 50))
            case 7 if other:
                start = chance.randrange(len(other))
                found[at : at + 64] = other[start : start + chance.randrange(1, 256)]
            case _:
                found += chance.randbytes(chance.randrange(64))
    return bytes(found)


def spoil_json(document: Any, chance: random.Random) -> bytes:
    """Return the text of ``document`` with one to four values, keys or whole branches changed."""
    for _ in range(1 + chance.randrange(4)):
        places = list(_places(document))
        if not places:
            break
        holder, key = chance.choice(places)
        match chance.randrange(7):
            case 0:
                holder[key] = chance.choice(NASTY_TEXT)
            case 1:
                holder[key] = chance.choice(NASTY_NUMBERS)
            case 2:
                holder[key] = chance.choice((None, [], {}, [[]], {"a": {}}))
            case 3 if isinstance(holder, dict):
                holder[chance.choice(NASTY_TEXT)] = holder.pop(key)
            case 4:
                del holder[key]
            case 5 if isinstance(holder, list):
                holder.extend([holder[key]] * chance.choice((1, 300)))
            case _:
                other, at = chance.choice(places)
                holder[key] = json.loads(json.dumps(other[at])) if _holds(other, at) else None
    text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
    match chance.randrange(12):
        case 0:
            text = text.replace(":", ': NaN, "x":', 1)
        case 1:
            text = "[" * chance.choice((50, 100_000)) + text
        case 2:
            text = text.replace("{", '{"schema": 1, "schema": 1, ', 1)
        case 3:
            text = "\ufeff" + text
    return text.encode("utf-8", "surrogatepass")


def _places(document: Any) -> list[tuple[Any, Any]]:
    found, stack = [], [document]
    while stack:
        value = stack.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            stack.append(value[key])
    return found


def _holds(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def pictures() -> tuple[bytes, ...]:
    """Return small images of every format and many modes, as seeds."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), np.uint8)
    color, alpha = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for picture, kind, options in (
        (color, "JPEG", {"exif": exif}), (color.convert("CMYK"), "JPEG", {"progressive": True}),
        (color.convert("L"), "JPEG", {}), (color, "PNG", {"exif": exif}), (alpha, "PNG", {}),
        (color.convert("P"), "PNG", {"transparency": 3}), (color.convert("I;16"), "PNG", {}),
        (color.convert("1"), "PNG", {}), (color, "WEBP", {"lossless": True}), (alpha, "WEBP", {}),
        (color, "BMP", {}), (color.convert("P"), "BMP", {}), (color, "GIF", {}), (color, "PPM", {}),
        (color, "TIFF", {"compression": "tiff_lzw"}), (color, "TIFF", {"compression": "tiff_deflate"}),
        (color.convert("F"), "TIFF", {}), (color.convert("1"), "TIFF", {"compression": "group4"}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return tuple(made)


def png_bomb(width: int, height: int, *, depth: int = 8, color: int = 2) -> bytes:
    """Return a PNG of a few kilobytes that contains ``width`` x ``height`` black pixels, up to 100 million."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = b"\0" * (1 + (width * bits + 7) // 8)
    pack = zlib.compressobj(1)
    rows = height if width * height <= 100_000_000 else 1  # beyond, the header is all that may ever be read
    data = b"".join(pack.compress(row) for _ in range(rows)) + pack.flush()
    palette = chunk(b"PLTE", b"\0\1\2" * 4) + chunk(b"tRNS", b"\0") if color == 3 else b""
    # Turned on its side by EXIF, so that it is held twice.
    exif = chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + exif + chunk(b"IDAT", data) + chunk(b"IEND", b"")
