"""The order of class folders: numbers sorted as text (Keras' loaders) or by their value."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xxdeploy.errors import UsageError

ORDERS = ("text", "numeric")
_NUMBERED = re.compile(r"([^0-9]*)([0-9]{1,9})(?![0-9]).*", re.DOTALL)


def class_orders(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the plausible orders of class folders, by name: ``text``, and ``numeric`` where it is another one.

    ``text`` is that of Keras' ``image_dataset_from_directory`` and ``flow_from_directory``: 0, 1, 10, 11, 2. Where each
    name has a number of its own at the same place (``10``, ``class10``, ``10 ten``), the training code may have sorted
    by the numbers, or used them as indices: ``numeric``.
    """
    text, numeric = tuple(sorted(names)), numeric_order(names)
    return {"text": text} if numeric is None or numeric == text else {"text": text, "numeric": numeric}


def numeric_order(names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names sorted by their numbers; None unless each has one of its own at the same place."""
    parts = [_NUMBERED.fullmatch(name) for name in names]
    numbers = {int(part[2]): name for part, name in zip(parts, names, strict=True) if part}
    prefixes = {part[1] for part in parts if part}
    if not names or len(numbers) != len(names) or len(prefixes) != 1:
        return None
    return tuple(numbers[number] for number in sorted(numbers))


def ordered(names: Sequence[str], order: str | None, where: object) -> tuple[tuple[str, ...], str | None]:
    """Return the classes called ``names`` in ``order`` (None: text), and a warning if the order was a guess.

    ``where`` is where the names come from. ``UsageError`` ``class-order``: numeric, and the names are not numbered.
    """
    orders, numeric = class_orders(names), numeric_order(names)
    if order == "numeric":
        if numeric is None:
            raise UsageError(
                f"the classes in {where} have no numbers to sort by: {', '.join(map(repr, sorted(names)[:4]))}",
                hint="leave --class-order out, or give the names in order with --labels FILE",
                code="class-order",
            )
        return numeric, None
    if order is None and "numeric" in orders:
        text = orders["text"]
        place = next(index for index, name in enumerate(text) if name != orders["numeric"][index])
        return text, (
            f"WARNING: the classes in {where} are numbered, and were sorted as text, as Keras' loaders sort: class "
            f"{place} is {text[place]!r}. If class {place} of the network is {orders['numeric'][place]!r}, add "
            "--class-order numeric (--class-order text confirms the order and ends this warning)"
        )
    return orders["text"], None
