"""Detect the type of a file from its first bytes, whatever its name."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

from xxdeploy.errors import UsageError

Kind = Literal["keras", "h5", "json", "saved-model"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
SAVED_GRAPH = "saved_model.pb"
"""The file by which a folder is a SavedModel."""
_BOM = b"\xef\xbb\xbf"  # Windows' editors begin UTF-8 with it
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OTHERS = (
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"<", "a web page (a failed download)"),
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file)"),
)


def sniff(path: Path) -> Kind:
    """Return the type of ``path`` by its content, whatever its suffix is; a folder may be a SavedModel.

    Raises
    ------
    UsageError
        ``no-model-file``: absent, another folder, a device, or unreadable. ``not-a-model``: neither zip nor HDF5 nor
        JSON.
    """
    if path.is_dir():
        if is_saved_model(path):
            return "saved-model"
        inside = sorted(part.parent.name for part in path.glob(f"*/{SAVED_GRAPH}"))
        raise UsageError(
            f"{path} is a folder without saved_model.pb, so it is no SavedModel",
            hint=f"its folder {inside[0]} is one: xxdeploy export {path / inside[0]}"
            if inside
            else "name the model's file (.keras, .h5), or the folder that holds saved_model.pb and variables",
            code="no-model-file",
        )
    try:
        if not path.is_file():
            raise OSError(22, "it is a device or a pipe" if path.exists() else "there is no such file")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            kind = _kind(file, head, size)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(
            f"the model file {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="check the path; networks of the catalog have no suffix, see `xxdeploy models`",
            code="no-model-file",
        ) from error
    if kind is None:
        raise UsageError(
            f"{path} is not a Keras model: it is {_other(head, size)}",
            hint="save the model with model.save('NAME.keras')",
            code="not-a-model",
        )
    return kind


def is_saved_model(path: Path) -> bool:
    """Tell whether ``path`` is a folder with the graph of a SavedModel."""
    return (path / SAVED_GRAPH).is_file()


def _kind(file: BinaryIO, head: bytes, size: int) -> Kind | None:
    if head.startswith(_ZIP):
        return "keras"
    if head.removeprefix(_BOM).lstrip().startswith((b"{", b'"{')):
        return "json"
    offset = 0  # HDF5 may begin after a user block of 512, 1024, 2048, ... bytes
    while offset < size and offset <= 1 << 20:
        file.seek(offset)
        if file.read(8) == HDF5_MAGIC:
            return "h5"
        offset = offset * 2 or 512
    return None


def _other(head: bytes, size: int) -> str:
    if not size:
        return "an empty file"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    known = next((name for magic, name in _OTHERS if head.lstrip().startswith(magic)), None)
    if known:
        return known
    if head[:1] == b"\x08" and head[2:3] == b"\x12":  # ir_version, producer_name
        return "an ONNX model"
    return "neither a zip archive nor an HDF5 file"
