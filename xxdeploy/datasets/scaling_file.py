"""The file of ``--preprocess FILE``: how pixels are scaled."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.errors import UsageError
from xxdeploy.files import TomlFile
from xxdeploy.runtime.image.preprocess import CUSTOM, MODES
from xxdeploy.runtime.image.scaling import NAMED, Scaling, named_scaling

_KEYS = ("scale", "mean", "std", "order")
_FILE = TomlFile(
    noun="the file of --preprocess",
    missing_code="no-preprocess-file",
    missing_hint="--preprocess takes tf, caffe, torch, none, 0..1, auto or a TOML file, such as: scale = 0.004",
    bad_code="bad-preprocess-file",
    bad_hint="the keys are scale, mean, std (numbers, or lists of one number per channel) and order (rgb or bgr)",
    json=True,
)


def scaling_for(asked: str, channels: int) -> tuple[str, Scaling | None]:
    """Return the mode and the scaling that ``--preprocess ASKED`` means: a mode, a name of ``NAMED``, or a file.

    ``UsageError``: those of ``load_scaling``; ``preprocess-invalid``: a name that is for three channels.
    """
    if asked in MODES:
        return asked, None
    return CUSTOM, named_scaling(asked, channels) if asked in NAMED else load_scaling(Path(asked), channels)


def load_scaling(path: Path, channels: int) -> Scaling:
    """Read ``(x * scale - mean) / std`` from a TOML or JSON file.

    ``scale`` is a number (default 1), ``mean`` (0) and ``std`` (1) are numbers or lists of one number per channel,
    ``order`` is ``rgb`` or ``bgr``. For example::

        scale = 0.00392156862745098
        mean = [0.485, 0.456, 0.406]
        std = [0.229, 0.224, 0.225]

    ``UsageError``: ``no-preprocess-file``: the file cannot be read; ``bad-preprocess-file``: neither TOML nor JSON,
    unknown keys, empty, or invalid values.
    """
    values = _FILE.read(path)
    _FILE.check_keys(path, values, _KEYS)
    if not values:
        raise _FILE.bad(path, "it is empty")
    try:
        return Scaling(
            _number(values.get("scale", 1.0)),
            _channels(values.get("mean", 0.0), channels),
            _channels(values.get("std", 1.0), channels),
            values.get("order", "rgb"),
        )
    except UsageError as error:
        raise _FILE.bad(path, error.message) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise _FILE.bad(path, str(error)[:200]) from error


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _channels(value: object, channels: int) -> tuple[float, ...]:
    numbers = tuple(map(_number, value)) if isinstance(value, list) else (_number(value),) * channels
    if len(numbers) != channels:
        raise ValueError(f"{len(numbers)} values for an image of {channels} channels")
    return numbers
