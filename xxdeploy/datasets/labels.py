"""Class names in the order of a network's outputs, and which class a name means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from xxdeploy.errors import UsageError


@dataclass(frozen=True, slots=True)
class Match:
    """The classes that a name means: none, one, or several that the name does not tell apart.

    ``is_folded`` is True if the name differs from the class's in case, spaces, ``-``, ``_`` or its Unicode form.
    """

    classes: tuple[int, ...] = ()
    is_folded: bool = False

    @property
    def index(self) -> int | None:
        """The class if it is the only one, else None."""
        return self.classes[0] if len(self.classes) == 1 else None


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
        """Return the class index of each name in ``given``, None if it matches no class or several."""
        return [match.index for match in self.matches(given)]

    def matches(self, given: Sequence[str]) -> list[Match]:
        """Return the classes that each name in ``given`` means.

        A name is an id, the whole name, its first synonym (``tench`` of "tench, Tinca tinca"), or the index and the
        name (``0 tench``). The exact name decides where there is one, then the name in Unicode's composed form (NFC),
        then the name without regard to case, spaces, ``-``, ``_`` and zeros before a number.
        """
        spelled = [
            (name.partition(",")[0], name, f"{index} {name}", f"{index} {name.partition(',')[0]}")
            for index, name in enumerate(self.names)
        ]
        # Of ImageNet's "maillot" and "maillot, tank suit", Keras calls both maillot: with ids no name is worth more.
        whole = _table(((name,) for name in self.names), str) if self.ids is None else {}
        exact, *folded = (_table(spelled, fold) for fold in (str, _composed, _plain))
        steps: tuple[tuple[Callable[[str], str], dict[str, list[int]], bool], ...] = (
            (str, {name: [index] for index, name in enumerate(self.ids or ())}, False),
            (str, whole, False),
            (str, exact, False),
            (_composed, folded[0], True),
            (_plain, folded[1], True),
        )

        def match(name: str) -> Match:
            for fold, table, is_folded in steps:
                if (classes := table.get(fold(name))) is not None:
                    return Match(tuple(classes), is_folded)
            return Match()

        return list(map(match, given))


def _table(spelled: Iterable[Sequence[str]], fold: Callable[[str], str]) -> dict[str, list[int]]:
    """Return the classes of each folded name; ``spelled`` are the spellings of each class."""
    table: dict[str, list[int]] = {}
    for index, names in enumerate(spelled):
        for key in dict.fromkeys(map(fold, names)):
            table.setdefault(key, []).append(index)
    return table


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    text = re.sub(r"[\s_\-]+", " ", _composed(name)).strip()
    text = _composed(text.casefold())  # some letters have a folded form that is not composed
    return text.lstrip("0") or "0" if text.isascii() and text.isdecimal() else text
