"""The texts on images: the alphabet of a network that reads them, and a folder of images with their true texts."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from xxdeploy.datasets.folders import open_images
from xxdeploy.datasets.images import ImageSet
from xxdeploy.datasets.labels import Labels
from xxdeploy.datasets.labels_csv import read_listing
from xxdeploy.datasets.labels_file import MAX_BYTES, load_labels
from xxdeploy.errors import UsageError
from xxdeploy.files import read_bounded

BLANK = "<blank>"
"""The name of the class without text, where each class needs one."""


def load_alphabet(path: Path, classes: int, blank: int) -> Labels:
    """Read the text of each class, in their order, without the blank's; return them with ``BLANK`` in its place.

    The file has one text a line, usually a character, which may be a space; or all characters on a single line; or it
    is JSON as ``load_labels`` reads it. ``UsageError``: as ``load_labels``; ``labels-count``: their number is not one
    less than ``classes``.
    """
    names = list(load_labels(path).names) if path.suffix.lower() == ".json" else _lines(path)
    if len(names) == 1 and classes > 2:
        names = list(names[0])
    if len(names) != classes - 1:
        raise UsageError(
            f"the network tells {classes} classes apart, one of them the blank, but {path} has {len(names)} characters",
            hint=f"write one character a line, {classes - 1} in all, in the order of the outputs and without the blank",
            code="labels-count",
        )
    return Labels((*names[:blank], BLANK, *names[blank:]))


def _lines(path: Path) -> list[str]:
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a null byte in the path
        raise UsageError(
            f"the labels file {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="give a text file with one character a line",
            code="no-labels-file",
        ) from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    if "" in lines:
        raise UsageError(
            f"the labels file {path} cannot be used: line {lines.index('') + 1} is empty",
            hint="write one character a line; a line with a space is the space",
            code="bad-labels",
        )
    return lines


def open_texts(root: Path, labels: Labels) -> tuple[ImageSet, tuple[str, ...], str]:
    """Open images with their true texts; return them, the texts that their labels count, and a note on the source.

    The texts are those of a ``labels.csv`` (``file,label``), else the names of the folders that hold the images, else
    the names of the files without their suffix, as in keras.io's set of captchas.

    ``UsageError``: as ``open_images``; ``labels-unknown``: a text has a character that the network cannot write.
    """
    images = open_images(root)
    names = list(images.names)
    listing = read_listing(root, names)
    if listing is not None and listing.files:
        names, given = list(listing.files), [text.strip() for text in listing.given]
        said = f"{root.name}/labels.csv"
    elif all("/" in name for name in names):
        given, said = [PurePosixPath(name).parent.name for name in names], f"the folders of {root.name}"
    else:
        given, said = [PurePosixPath(name).stem for name in names], f"the names of the files in {root.name}"
    characters = {character for name in labels.names if name != BLANK for character in name}
    for name, text in zip(names, given, strict=True):
        if unknown := sorted(set(text) - characters):
            raise UsageError(
                f"the text {text!r} of {name} has {unknown[0]!r}, which the network cannot write (texts: {said})",
                hint="write the true texts into labels.csv (file,label) in the characters of --labels",
                code="labels-unknown",
            )
    texts = tuple(dict.fromkeys(given))
    numbers = {text: number for number, text in enumerate(texts)}
    files, labels_of_files = tuple(root / name for name in names), tuple(numbers[text] for text in given)
    return ImageSet(root, files, labels_of_files, images.left_out), texts, f"the true texts are {said}"
