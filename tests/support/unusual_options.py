"""An unusual value for every option of an export, and options that have it in the scope where it applies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xxdeploy.exporter.option_fields import Value
from xxdeploy.exporter.options import OPTIONS, ExportOptions

_VALUES: dict[str, Value] = {
    "weights": "own weights.h5", "pooling": "max", "preprocess": "-my.toml", "resize": "crop", "task": "features",
    "resample": "area", "background": "white", "class-order": "numeric", "output-range": "-1..1", "ctc-blank": "first",
    "custom-objects": ("a:b", "c d:e"), "recipe": "mine.toml",
    "cpu": "arm", "with": "litert", "effort": "quick", "target": "tensorrt-rtx", "gpu": "sm86,sm89", "batch": "1,2,4",
}  # fmt: skip
_OF_KIND: dict[type, Value] = {bool: True, int: 7, float: 0.25, str: "-x 'y' \"z\"", Path: Path("my files.txt")}


def unusual_value(name: str) -> Value:
    return _VALUES[name] if name in _VALUES else _OF_KIND[OPTIONS[name].kind]


def options_with(name: str) -> ExportOptions:
    """Return options with an unusual value of one option, and with what it needs."""
    option = OPTIONS[name]
    values: dict[str, Any] = {option.field: unusual_value(name)}
    if option.scope.target in ("gpu", "web"):
        values["target"] = "tensorrt-rtx" if option.scope.target == "gpu" else "web"
    if name == "strict":
        values["max_drop"] = 0.25
    precision = "int8" if "fp32" not in option.scope.precisions else "fp32"
    return ExportOptions.of(precision, **values)
