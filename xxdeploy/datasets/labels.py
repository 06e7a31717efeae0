"""Class names: ImageNet's, or the user's own from a file or from the names of folders."""

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
    """Names of the classes, in the order of a network's outputs: not always unique (ImageNet has two cranes).

    ``ids`` are their WordNet ids (``n01440764``), which are unique, or None.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.names:
            raise UsageError("the list of labels is empty", hint="write one class name per line", code="labels-empty")
        if self.ids is not None and (len(self.ids) != len(self.names) or len(set(self.ids)) != len(self.ids)):
            raise UsageError(
                "the ids of the labels repeat, or one is missing", hint="write one id per line", code="bad-labels"
            )

    def __len__(self) -> int:
        """Return the number of classes."""
        return len(self.names)

    def indices(self, given: Sequence[str]) -> list[int | None]:
        """Return the class index of each name in ``given``, None if it matches no class or several.

        A name is an id, the whole name, or its first synonym (``tench`` of "tench, Tinca tinca"); case, spaces, ``-``
        and ``_`` do not matter.
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
    """Return the 1,000 classes of ILSVRC-2012 in Keras' order, sorted by WordNet id."""
    return load_labels(_IMAGENET)


def load_labels(path: Path) -> Labels:
    """Read class names from a text file, one per line, in the order of the network's outputs.

    If each line begins with a WordNet id (``n01440764 tench, Tinca tinca``), the ids are split off. Empty lines at the
    end are ignored. ``UsageError``: ``no-labels-file``; ``labels-empty``; ``bad-labels``: not UTF-8 text, an empty line
    among the names, or an id twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"the labels file {path} cannot be read: {error.strerror}",
            hint="give a text file with one class name per line",
            code="no-labels-file",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the labels file {path} is not UTF-8 text", hint="write one class name per line", code="bad-labels"
        ) from error
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise UsageError(
            f"line {lines.index('') + 1} of {path} is empty", hint="write one class name per line", code="bad-labels"
        )
    pairs = [line.split(None, 1) for line in lines]
    if pairs and all(len(pair) == 2 and _WNID.fullmatch(pair[0]) for pair in pairs):
        return Labels(tuple(pair[1] for pair in pairs), tuple(pair[0] for pair in pairs))
    return Labels(tuple(lines))


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()
