"""The request to quantization: integer types, bits and layers, under a readable name.

The grammar, and how to decode a name::

    static-w8c-a8
    │      │││ └┴─ activations: 8 bit, one scale a tensor, and how the integer is laid out:
    │      │││       a8   uint8, asymmetric (U8S8: x86)
    │      │││       a8i  int8, asymmetric (S8S8: ARM; the same rounding as a8, shifted by 128)
    │      │││       a8s  int8, symmetric, zero point 0 (S8S8: TensorRT)
    │      ││└──── c: one scale for each output channel
    │      │└───── weight bits: 8 (-127..127), or 7 (-64..64)
    │      └────── w: weights, int8, symmetric
    └───────────── ranges are fixed when the model is made, from calibration images

Seven-bit weights are for x86 processors without VNNI, whose ``vpmaddubsw`` adds two uint8 x int8 products into 16 bits
with saturation: 2 * 255 * 64 = 32640 still fits, 2 * 255 * 127 does not. Narrow layers are the better remedy: a channel
loses precision only if two weights that are added together are too large, see ``quantize.x86.saturating_pairs``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xxdeploy.errors import UsageError

_GRAMMAR = re.compile(r"static-w(?P<bits>[78])c-a8(?P<layout>[is]?)")
_HINT = (
    "schemes: static-w8c-a8 (x86), static-w7c-a8 (x86 without VNNI), static-w8c-a8i (ARM), static-w8c-a8s (TensorRT)"
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """How weights and activations become integers, and the layers that stay in float.

    ``weight_bits`` is 8 or 7. ``signed`` makes activations int8 instead of uint8; ``symmetric`` fixes their zero point
    at 0 and needs ``signed``. ``float_layers`` names nodes (by node name or output tensor) that stay in float;
    ``narrow_layers`` names nodes with weights that must not saturate 16-bit sums (``{"all"}``: every layer). Neither is
    part of :attr:`name`.
    """

    weight_bits: int = 8
    signed: bool = False
    symmetric: bool = False
    float_layers: frozenset[str] = frozenset()
    narrow_layers: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.weight_bits not in (7, 8):
            raise ValueError(f"weight_bits must be 7 or 8, not {self.weight_bits}")
        if self.symmetric and not self.signed:
            raise ValueError("symmetric activations are signed")

    @property
    def name(self) -> str:
        """The readable name, which :func:`scheme` parses back (without the layers)."""
        return f"static-w{self.weight_bits}c-a8{'s' if self.symmetric else 'i' if self.signed else ''}"

    def is_narrow(self, *names: str) -> bool:
        """Tell whether a layer with these names is one of ``narrow_layers``."""
        return not self.narrow_layers.isdisjoint((*names, "all"))

    @property
    def weight_max(self) -> int:
        """Largest weight magnitude: 127 with 8 bits, 64 with 7."""
        return 127 if self.weight_bits == 8 else 64


def scheme(name: str) -> Scheme:
    """Parse a scheme name; see the grammar at the top of this module.

    Raises ``UsageError`` (``dynamic-quantization`` for dynamic schemes, ``unknown-scheme`` for anything else that does
    not parse).
    """
    if name.startswith("dynamic"):
        raise UsageError(
            f"{name!r}: dynamic quantization ruins the accuracy of convolutional networks and is not offered",
            hint="use static-w8c-a8, with a few hundred calibration images",
            code="dynamic-quantization",
        )
    match = _GRAMMAR.fullmatch(name)
    if match is None:
        raise UsageError(f"unknown quantization scheme {name!r}", hint=_HINT, code="unknown-scheme")
    layout = match["layout"]
    return Scheme(weight_bits=int(match["bits"]), signed=bool(layout), symmetric=layout == "s")
