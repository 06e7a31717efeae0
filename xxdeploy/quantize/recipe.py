"""All choices of a quantization, as a value and as a TOML file.

A recipe pins every choice that the ladder of ``xxdeploy export --int8`` would make, in TOML::

    scheme = "static-w8c-a8"            # numbers: see xxdeploy/quantize/scheme.py
    calibrator = "percentile-99.99"     # minmax, moving-average, percentile-P, entropy, mse
    equalization = true                 # cross-layer equalization, arXiv:1906.04721
    bias-correction = "empirical"       # none, analytic, empirical
    rounding = "adaptive"               # nearest, adaptive (AdaRound's objective, arXiv:2004.10568)
    float-layers = []                   # Keras layers that stay in float

Keys that are left out have the defaults of :class:`QuantizationRecipe`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.files import TomlFile
from xxdeploy.quantize.calibration.calibrators import calibrator
from xxdeploy.quantize.scheme import Scheme, scheme

BIAS_CORRECTIONS = ("none", "analytic", "empirical")
ROUNDINGS = ("nearest", "adaptive")


@dataclass(frozen=True, slots=True)
class QuantizationRecipe:
    """All choices of a quantization; the defaults are the ladder's first rung.

    Adaptive rounding moves the mean of outputs on purpose, so it needs the empirical bias correction. ``float_layers``
    are node names of the float graph, or Keras layer names, which stand for all their nodes. Raises ``UsageError``
    (``bad-quantization-recipe``, ``unknown-scheme``, ``unknown-calibrator``).
    """

    scheme: str = "static-w8c-a8"
    calibrator: str = "percentile-99.99"
    equalization: bool = False
    bias_correction: str = "none"
    rounding: str = "nearest"
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.asked()
        calibrator(self.calibrator)
        if self.bias_correction not in BIAS_CORRECTIONS:
            raise _bad(f"bias-correction must be one of {', '.join(BIAS_CORRECTIONS)}, not {self.bias_correction!r}")
        if self.rounding not in ROUNDINGS:
            raise _bad(f"rounding must be one of {', '.join(ROUNDINGS)}, not {self.rounding!r}")
        if self.rounding == "adaptive" and self.bias_correction != "empirical":
            raise _bad('rounding = "adaptive" needs bias-correction = "empirical"')

    def asked(self) -> Scheme:
        """Return the scheme, without the layers that stay in float."""
        return scheme(self.scheme)

    def to_json(self) -> dict[str, Any]:
        """Return the file's keys and values."""
        values = {key.replace("_", "-"): value for key, value in asdict(self).items()}
        return {**values, "float-layers": list(self.float_layers)}


_TYPES: dict[str, type] = {key: type(value) for key, value in QuantizationRecipe().to_json().items()}
_FILE = TomlFile(
    noun="quantization recipe",
    missing_code="no-quantization-recipe",
    missing_hint="--recipe takes a file, or the name of one that ships: see calibration/recipes",
    bad_code="bad-quantization-recipe",
    bad_hint=f"its keys are {', '.join(_TYPES)}; see docs/reference/recipes.md",
)


def load_quantization_recipe(path: Path) -> QuantizationRecipe:
    """Read a recipe file.

    Raises ``UsageError`` (``no-quantization-recipe``: it cannot be read; ``bad-quantization-recipe``: too large, not
    TOML, an unknown key, a value of the wrong type or that does not exist).
    """
    values = _FILE.read(path, _TYPES)
    layers = tuple(values.pop("float-layers", ()))
    if any(type(name) is not str for name in layers):
        raise _FILE.bad(path, "float-layers must be names")
    try:
        return QuantizationRecipe(
            float_layers=layers, **{key.replace("-", "_"): value for key, value in values.items()}
        )
    except XXDeployError as error:
        raise _FILE.bad(path, error.message) from error


def with_float_layers(recipe: QuantizationRecipe, layers: frozenset[str]) -> QuantizationRecipe:
    """Return ``recipe`` with more layers in float."""
    return replace(recipe, float_layers=tuple(dict.fromkeys((*recipe.float_layers, *sorted(layers)))))


def _bad(problem: str) -> UsageError:
    return UsageError(problem, hint=_FILE.bad_hint, code=_FILE.bad_code)
