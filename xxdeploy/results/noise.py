"""The signal-to-noise ratio of each layer, in decibels, and its record in a bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from xxdeploy.errors import BundleError

CEILING_DB = 200.0
"""The largest ratio, in both directions: float32 resolves 144 dB, and JSON has no infinity."""


def decibels(signal: float, noise: float) -> float | None:
    """Return ``10 log10(signal / noise)`` of two sums of squares, held within -200..200.

    None where both are zero: a dead tensor that stayed dead has no quality.
    """
    if signal == noise == 0:
        return None
    if noise == 0 or signal == 0:
        return CEILING_DB if noise == 0 else -CEILING_DB
    return max(-CEILING_DB, min(CEILING_DB, 10 * (math.log10(signal) - math.log10(noise))))


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """Signal-to-quantization-noise ratios of one layer in dB, measured at its output; see :func:`decibels`.

    ``layer`` is the node's name, which begins with the Keras layer's; ``operator`` is the ONNX one. ``sqnr_db`` is
    measured with this layer alone quantized in the float network. It has three parts, each measured by itself: only the
    weights and the bias rounded (``weights_db``; None for a layer without), only the input (``input_db``), only the
    output (``output_db``; None where it stays float). ``accumulated_db`` is that of the whole INT8 network up to this
    layer. A ratio is None where the layer's output is zero, in float as in integers.
    """

    layer: str
    operator: str
    sqnr_db: float | None
    weights_db: float | None
    input_db: float | None
    output_db: float | None
    accumulated_db: float | None


def noise_to_json(layers: Sequence[LayerNoise]) -> str:
    """Serialize in the given order; :func:`noise_from_json` reads it."""
    return json.dumps({"layers": [asdict(layer) for layer in layers]}, indent=1, allow_nan=False)


def noise_from_json(text: str | bytes) -> tuple[LayerNoise, ...]:
    """Read the text of :func:`noise_to_json`.

    ``BundleError`` ``damaged-sensitivity``: not JSON, no layer, a field missing, unknown, of another type or out of
    range.
    """
    names = {field.name for field in fields(LayerNoise)}
    try:
        value = json.loads(text)
        if set(value) != {"layers"} or not value["layers"]:
            raise ValueError("it lists no layers")
        for entry in value["layers"]:
            if set(entry) != names:
                raise ValueError(f"a layer must have {', '.join(sorted(names))}")
            for name, item in entry.items():
                if name in ("layer", "operator"):
                    right = isinstance(item, str) and item.isprintable()
                else:
                    right = item is None or (type(item) in (int, float) and abs(item) <= CEILING_DB)
                if not right:
                    raise ValueError(f"{name} is {str(item)[:80]!r}")
        return tuple(LayerNoise(**entry) for entry in value["layers"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(
            f"the record of each layer's noise cannot be read: {error}",
            hint="copy or export the bundle again",
            code="damaged-sensitivity",
        ) from error
