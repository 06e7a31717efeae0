"""Class names: ImageNet's, or one's own from a file or from the names of folders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import UsageError

_WNID = re.compile(r"n\d{8}")
_IMAGENET = Path(__file__).parent / "imagenet_classes.txt"


@dataclass(frozen=True, slots=True)
class Labels:
    """Names of the classes, in the order of a network's outputs.

    Attributes
    ----------
    names : tuple[str, ...]
        What a person reads; need not be unique (ImageNet has two cranes).
    ids : tuple[str, ...] | None
        WordNet ids (``n01440764``), unique, aligned to ``names``.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise UsageError("the list of labels is empty", hint="one class name on a line", code="labels-empty")
        if self.ids is not None and (len(self.ids) != len(self.names) or len(set(self.ids)) != len(self.ids)):
            raise UsageError("the ids of the labels repeat, or one is missing", hint="one id a line", code="bad-labels")

    def __len__(self) -> int:
        """Return how many classes there are."""
        return len(self.names)

    def indices(self, given: Sequence[str]) -> list[int | None]:
        """Return the class index that each of ``given`` names, None where it names none or several.

        An id, the whole name, and its first synonym (``tench`` of "tench, Tinca tinca") are understood; case,
        spaces, ``-`` and ``_`` do not matter.
        """
        by_id = {name: index for index, name in enumerate(self.ids or ())}
        by_name: dict[str, set[int]] = {}
        for index, name in enumerate(self.names):
            for key in (name, name.partition(",")[0]):
                by_name.setdefault(_plain(key), set()).add(index)

        def index_of(name: str) -> int | None:
            matches = {by_id[name]} if name in by_id else by_name.get(_plain(name), set())
            return next(iter(matches)) if len(matches) == 1 else None

        return [index_of(name) for name in given]


def imagenet_labels() -> Labels:
    """Return the 1,000 classes of ILSVRC-2012 in Keras' order, which is that of the sorted WordNet ids."""
    return load_labels(_IMAGENET)


def load_labels(path: Path) -> Labels:
    """Read class names from a text file: one a line, in the order of the network's outputs.

    Where every line begins with a WordNet id (``n01440764 tench, Tinca tinca``), the ids are kept apart. Empty lines
    at the end are ignored.

    Raises
    ------
    UsageError
        ``no-labels-file``; ``labels-empty``; ``bad-labels``: not UTF-8 text, an empty line among the names, or an id
        twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"the labels file {path} cannot be read: {error.strerror}",
            hint="give a text file with one class name on a line",
            code="no-labels-file",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the labels file {path} is not UTF-8 text", hint="one class name on a line", code="bad-labels"
        ) from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise UsageError(
            f"line {lines.index('') + 1} of {path} is empty", hint="one class name on a line", code="bad-labels"
        )
    pairs = [line.split(None, 1) for line in lines]
    if pairs and all(len(pair) == 2 and _WNID.fullmatch(pair[0]) for pair in pairs):
        return Labels(tuple(pair[1] for pair in pairs), tuple(pair[0] for pair in pairs))
    return Labels(tuple(lines))


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()
