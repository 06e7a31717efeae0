"""Recipes of calibration sets: a TOML file with the folder of images, their number, and how they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xxdeploy.files import TomlFile
from xxdeploy.runtime.image.sizing import RESIZES


@dataclass(frozen=True, slots=True)
class CalibrationRecipe:
    """The images of a calibration and how they are used.

    ``folder`` is relative to the file of the recipe. ``samples`` is the number of images (None: all), chosen by
    ``seed``. ``method`` is a calibrator, such as ``minmax`` or ``percentile-99.99``, and ``resize`` is one of
    ``RESIZES``; None is the default of the export.
    """

    folder: Path
    samples: int | None = None
    seed: int = 0
    method: str | None = None
    resize: str | None = None


_TYPES: dict[str, type] = {"folder": str, "samples": int, "seed": int, "method": str, "resize": str}
_FILE = TomlFile(
    noun="calibration recipe",
    missing_code="no-recipe",
    missing_hint="--calibration takes a folder of images or a recipe such as calibration/sample.toml",
    bad_code="bad-recipe",
    bad_hint=f"its keys are {', '.join(_TYPES)}; see calibration/README.md",
)


def recipe_from(path: Path) -> CalibrationRecipe:
    """Return the recipe in a file, or one with all images for a folder: the argument of ``--calibration``."""
    return CalibrationRecipe(path) if path.is_dir() else load_recipe(path)


def load_recipe(path: Path) -> CalibrationRecipe:
    """Read a recipe. The folder is not opened, and the method is not checked.

    ``UsageError``: ``no-recipe``: the file cannot be read; ``bad-recipe``: larger than 1 MB, not TOML, an unknown key,
    a missing folder, a value of the wrong type or out of range.
    """
    values = _FILE.read(path, _TYPES)
    if not values.get("folder"):
        raise _FILE.bad(path, "the key folder is missing")
    if values.get("samples", 1) < 1:
        raise _FILE.bad(path, f"samples must be 1 or more, not {values['samples']}")
    if values.get("seed", 0) < 0:
        raise _FILE.bad(path, f"seed must be 0 or more, not {values['seed']}")
    if values.get("resize", "squash") not in RESIZES:
        raise _FILE.bad(path, f"resize must be one of {', '.join(RESIZES)}, not {values['resize']!r}")
    return CalibrationRecipe(**{**values, "folder": path.parent / values["folder"]})
