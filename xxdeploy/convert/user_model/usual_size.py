"""The input size of a model that takes images of any size, where the model or its images say it. Pure data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from xxdeploy.convert.user_model.adapt import input_layers
from xxdeploy.datasets import open_images

Config = dict[str, Any]
Size = tuple[int, int]

_SIZES = frozenset((96, 160, 192, 224, 227, 240, 260, 288, 299, 300, 320, 331, 380, 384, 416, 448, 456, 480, 528, 600))
"""Sizes of square inputs that a bare number in a name can mean: no usual numbers of layers, units or epochs."""
_WITH_WEIGHTS = ("BatchNormalization", "Conv", "Dense")
_SQUARE = re.compile(r"(?<![0-9])([0-9]{2,4})[xX]([0-9]{2,4})(?![0-9])")
_BARE = re.compile(r"(?:^|[_\- ])([0-9]{2,3})(?=$|[_\- .])")
_NAMED = re.compile(
    r"(?:size|input|image|img|px|res)[_\-]?([0-9]{2,4})(?![0-9])|(?<![0-9])([0-9]{2,4})px", re.IGNORECASE
)
_COUNTED = re.compile(
    r"(?:epochs?|ep|batch|bs|steps?|iters?|units|filters|dim|hidden|seed|fold|v|run)[_\- ]?$", re.IGNORECASE
)


def usual_size(config: Config, path: Path, images: Path | None = None) -> tuple[Size, str] | None:
    """Return height and width of the input of a model, and where they are said; None if its size is not free or unsaid.

    In this order: a ``Resizing`` layer; one size in the names of the model, of the models inside it and of the file,
    such as ``mobilenetv2_1.00_224`` or ``unet_256x256``; the one size of all pictures in the folder ``images``.

    Raises
    ------
    UsageError
        Those of ``open_images``.
    """
    shape = next((list(layer["config"]["batch_shape"]) for layer in input_layers(config)), [])
    if len(shape) != 4 or shape[1:3] != [None, None]:
        return None
    for layer in _parts(config):
        if any(word in layer["class_name"] for word in _WITH_WEIGHTS):
            break  # a Resizing after it enlarges features
        height, width = (layer["config"].get(side) for side in ("height", "width"))
        if layer["class_name"] == "Resizing" and isinstance(height, int) and isinstance(width, int):
            return (height, width), "as its Resizing layer says"
    models = ("Functional", "Model", "Sequential")
    names = [str(part["config"].get("name")) for part in _parts(config) if part["class_name"] in models]
    said = {size: name for name in (path.stem, *names) for size in sizes_in(name)}
    if len(said) == 1:
        ((size, name),) = said.items()
        return (size, size), f"as its name says ({name})"
    if images is not None and not said and (seen := _size_of_all(images)) is not None:
        return seen, f"the size of all images in {images.name}"
    return None


def sizes_in(name: str) -> set[int]:
    """Return the sizes of a square image that ``name`` says; numbers that may count something else are left out."""
    found = {int(height) for height, width in _SQUARE.findall(name) if height == width}
    found |= {int(one or other) for one, other in _NAMED.findall(name)}
    for match in _BARE.finditer(name):
        if int(match[1]) in _SIZES and not _COUNTED.search(name[: match.start()]):
            found.add(int(match[1]))
    return {size for size in found if 16 <= size <= 4096}


def _size_of_all(folder: Path) -> Size | None:
    """Return the one size of all pictures of a folder, None if there are two, or one cannot be read."""
    seen: set[Size] = set()
    for file in open_images(folder).files:
        try:
            with Image.open(file) as picture:
                seen.add((picture.height, picture.width))
        except (OSError, ValueError, Image.DecompressionBombError):
            return None
        if len(seen) > 1:
            return None
    return next(iter(seen))


def _parts(config: Any) -> Iterator[Config]:
    """Yield every layer and model of a configuration with a dictionary of its own, in the order of the file."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str) and isinstance(config.get("config"), dict):
            yield config
        for value in config.values():
            yield from _parts(value)
    elif isinstance(config, list):
        for value in config:
            yield from _parts(value)
