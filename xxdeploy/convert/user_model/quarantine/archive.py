"""Read the index, the configuration and the weights of a ``.keras`` archive within limits of size."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

from xxdeploy.errors import ConversionError, UsageError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_CONFIG = 8 << 20
"""Bytes of a configuration; the largest of keras.applications, NASNetLarge, has 1.03 million."""
_MAX_ENTRIES = 256
_MAX_INDEX = 64 << 10
_FLOOR, _MAX_RATIO = 16 << 20, 20  # Keras stores weights as they are, and floats hardly shrink
_BLOCK = 1 << 20


def read_archive(path: Path, folder: Path) -> tuple[bytes, bytes | None, Path]:
    """Return the configuration, the metadata (or None), and the path of the weights, unpacked into ``folder``.

    Raises
    ------
    UsageError
        ``not-a-model``: a zip archive without a Keras model.
    ConversionError
        ``damaged-model``: truncated, or a wrong checksum. ``unsafe-model``: zip bombs, two entries of one name, names
        that lead out of the archive, links, encryption.
    """
    _check_index(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked(path, archive.infolist())
            config = _read(archive, entries[CONFIG], MAX_CONFIG)
            metadata = _read(archive, entries[METADATA], _MAX_INDEX) if METADATA in entries else None
            weights = folder / WEIGHTS
            with archive.open(entries[WEIGHTS]) as source, weights.open("wb") as target:
                _copy(source, target, entries[WEIGHTS].file_size)
            return config, metadata, weights
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, ValueError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, reason: str) -> ConversionError:
    """Return the error for a file that is truncated or corrupted."""
    return ConversionError(
        f"{path} is damaged: {' '.join(reason.split())[:200]}",
        hint="the copy or download may be incomplete: fetch it or save it again",
        code="damaged-model",
    )


def unsafe(path: Path, reason: str) -> ConversionError:
    """Return the error for a file with content that Keras never writes."""
    return ConversionError(
        f"{path} is refused: {reason}",
        hint="Keras writes no such file; if you trust its source, load and save it there again with model.save",
        code="unsafe-model",
    )


def _check_index(path: Path) -> None:
    """Refuse a huge index, which ``zipfile`` would read whole into one object per entry."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) < at + 22:
            raise damaged(path, "the end of the zip archive is missing")
        entries, index = (
            struct.unpack("<H", tail[at + 10 : at + 12])[0],
            struct.unpack("<I", tail[at + 12 : at + 16])[0],
        )
        if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # ZIP64: the sizes are in another record
            file.seek(min(size, struct.unpack("<Q", tail[at - 12 : at - 4])[0]))
            record = file.read(56)
            if len(record) < 56 or record[:4] != b"PK\x06\x06":
                raise damaged(path, "the end of the zip archive is missing")
            entries, index = struct.unpack("<QQ", record[32:48])
    if entries > _MAX_ENTRIES or index > _MAX_INDEX:
        raise unsafe(path, f"its index claims {entries} files in {index} bytes")


def _checked(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if name in entries:
            raise unsafe(path, f"it has two entries called {name!r}")
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/") or not name.isprintable():
            raise unsafe(path, f"its entry {name[:80]!r} leads out of the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise unsafe(path, f"{name!r} is a link")
        if info.flag_bits & 1:
            raise unsafe(path, f"{name!r} is encrypted")
        if info.file_size > _FLOOR and info.file_size > _MAX_RATIO * info.compress_size:
            raise unsafe(path, f"{name!r} unpacks to {info.file_size:,} bytes from {info.compress_size:,}")
        entries[name] = info
    if CONFIG not in entries:
        kind = "a PyTorch file" if any(name.endswith("/data.pkl") for name in entries) else "a zip archive"
        raise UsageError(
            f"{path} is {kind} without {CONFIG}, not a Keras model",
            hint="save the model with model.save('NAME.keras')",
            code="not-a-model",
        )
    if WEIGHTS not in entries:
        raise UsageError(
            f"{path} has no {WEIGHTS}, so it is not a whole model",
            hint="save the whole model with model.save('NAME.keras')",
            code="not-a-model",
        )
    return entries


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.file_size > most:
        raise unsafe(Path(str(archive.filename)), f"{info.filename} has {info.file_size:,} bytes, more than {most:,}")
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
        file.read(1)  # the end of the stream, where the checksum is compared
    return data


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    copied = 0
    while block := source.read(_BLOCK):
        copied += len(block)
        target.write(block)
    if copied != size:
        raise EOFError(f"{copied:,} of {size:,} bytes of weights")
