"""How pixels are scaled, in a file of the user's own: what ``--preprocess FILE`` reads."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.scaling import Scaling

_KEYS = ("scale", "mean", "std", "order")
_MAX_BYTES = 1 << 16


def load_scaling(path: Path, channels: int) -> Scaling:
    """Read ``(x * scale - mean) / std`` from a TOML or JSON file.

    ``scale`` is a number (1 when it is left out), ``mean`` (0) and ``std`` (1) are numbers or lists of one number a
    channel, ``order`` is ``rgb`` or ``bgr``. For example::

        scale = 0.00392156862745098
        mean = [0.485, 0.456, 0.406]
        std = [0.229, 0.224, 0.225]

    Raises
    ------
    UsageError
        ``no-preprocess-file``: it cannot be read. ``bad-preprocess-file``: neither TOML nor JSON, unknown keys,
        nothing in it, or values that cannot be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--preprocess names neither tf, caffe, torch, none nor a file that can be read: {path}",
            hint="a TOML file such as: scale = 0.0039215686, mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5]",
            code="no-preprocess-file",
        ) from error
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        text = data.decode("utf-8-sig")
        values = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
        unknown = sorted(set(values) - set(_KEYS))
        if unknown or not values:
            raise ValueError(f"unknown keys {', '.join(unknown)}" if unknown else "it is empty")
        return Scaling(
            _number(values.get("scale", 1.0)),
            _channels(values.get("mean", 0.0), channels),
            _channels(values.get("std", 1.0), channels),
            values.get("order", "rgb"),
        )
    except UsageError as error:
        raise _bad(path, error.message) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # bad TOML, JSON, UTF-8: ValueError
        raise _bad(path, str(error)) from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _channels(value: object, channels: int) -> tuple[float, ...]:
    numbers = tuple(map(_number, value)) if isinstance(value, list) else (_number(value),) * channels
    if len(numbers) != channels:
        raise ValueError(f"{len(numbers)} values for a picture of {channels} channels")
    return numbers


def _bad(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"the preprocessing in {path} cannot be used: {' '.join(reason.split())[:200]}",
        hint="the keys are scale, mean, std (numbers, or a list with one a channel) and order (rgb or bgr)",
        code="bad-preprocess-file",
    )
