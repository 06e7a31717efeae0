"""Check the constants of a graph before TensorFlow unpacks them: a few bytes can claim a tensor of any size."""

from __future__ import annotations

import math

from xxdeploy.convert.user_model.quarantine.saved_model import message
from xxdeploy.convert.user_model.quarantine.saved_model.checkpoint import SIZES
from xxdeploy.convert.user_model.quarantine.saved_model.nodes import Node

MAX_REPEATED = 1 << 24
"""Numbers of all constants that the file does not hold one by one: a tensor of equal numbers is stored as one."""

_CONTENT = 4
_VALUES = {5: 4, 6: 8, 7: 1, 10: 1, 11: 1, 13: 1, 16: 1, 17: 1}
"""The fields of a ``TensorProto`` with numbers, and the fewest bytes of one number when they are packed."""


class Repeated:
    """Counts the numbers of constants that are not in the file."""

    def __init__(self) -> None:
        self._left = MAX_REPEATED

    def check(self, node: Node) -> None:
        """Check the shape of a ``Const`` against its bytes. ``ValueError``: it claims more than it has."""
        tensor = message.inner(node.attribute("value"), 8)
        dtype = message.integer(tensor, 1)
        shape = message.shape_of(message.inner(tensor, 2))
        if shape is None or None in shape or dtype not in SIZES or dtype != node.type("dtype"):
            raise ValueError(f"the constant {node.name[:80]!r} has no shape, or a type that is no number")
        numbers = math.prod(side for side in shape if side is not None)
        content = sum(len(value) for value in tensor.get(_CONTENT, ()))
        if content:
            if content != numbers * SIZES[dtype]:
                raise ValueError(f"the constant {node.name[:80]!r} of the shape {shape} has {content:,} bytes")
            return
        stored = sum(
            1 if isinstance(value, int) else max(1, len(value) // least)
            for number, least in _VALUES.items()
            for value in tensor.get(number, ())
        )
        if numbers > stored:
            self._left -= numbers
        if self._left < 0:
            raise ValueError(f"its constants claim more than {MAX_REPEATED:,} numbers that the file does not hold")
