"""Recipes of calibration sets: a TOML file with the folder of images, their number, and how they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xxdeploy.datasets.table import is_table
from xxdeploy.files import TomlFile
from xxdeploy.runtime.image.sizing import RESIZES


@dataclass(frozen=True, slots=True)
class CalibrationRecipe:
    """The images of a calibration and how they are used.

    ``folder`` is relative to the file of the recipe. ``samples`` is the number of images (None: all), chosen by
    ``seed``. ``method`` is a calibrator, such as ``minmax`` or ``percentile-99.99``, and ``resize`` is one of
    ``RESIZES``; None is the default of the export. With ``smallest_crop`` the images are ``samples`` random square
    crops of the folder's pictures (:func:`~xxdeploy.datasets.crops.crops_of`); it is the smallest side of a crop, as a
    share (0..1) of the picture's short side.
    """

    folder: Path
    samples: int | None = None
    seed: int = 0
    method: str | None = None
    resize: str | None = None
    smallest_crop: float | None = None


_TYPES: dict[str, type] = {
    "folder": str, "samples": int, "seed": int, "method": str, "resize": str, "smallest-crop": float
}  # fmt: skip
_FILE = TomlFile(
    noun="calibration set",
    missing_code="no-recipe",
    missing_hint="--calibration takes a folder of images, a calibration set (.toml), or photos, which ship",
    bad_code="bad-recipe",
    bad_hint=f"its keys are {', '.join(_TYPES)}; see calibration/README.md",
)


def recipe_from(path: Path) -> CalibrationRecipe:
    """Return the recipe of ``--calibration``: that in a file, or one with all samples of a folder or a table."""
    return CalibrationRecipe(path) if path.is_dir() or is_table(path) else load_recipe(path)


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
    smallest = values.pop("smallest-crop", None)
    if smallest is not None and not 0 < smallest <= 1:
        raise _FILE.bad(path, f"smallest-crop must be above 0 and at most 1, not {smallest}")
    if smallest is not None and "samples" not in values:
        raise _FILE.bad(path, "smallest-crop needs samples, the number of crops")
    return CalibrationRecipe(**{**values, "folder": path.parent / values["folder"]}, smallest_crop=smallest)
