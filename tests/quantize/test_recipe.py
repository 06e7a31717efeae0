from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.files import MAX_TOML_BYTES
from xxdeploy.quantize.recipe import QuantizationRecipe, load_quantization_recipe, with_float_layers

ROOT = Path(__file__).resolve().parents[2]
FULL = """
scheme = "static-w7c-a8"
calibrator = "mse"
equalization = true
bias-correction = "empirical"
rounding = "adaptive"
float-layers = ["conv1", "predictions"]
"""


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_quantization_recipe(path)
    assert str(path) in caught.value.message
    return caught.value


def test_every_key_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FULL)
    recipe = load_quantization_recipe(path)
    assert recipe == QuantizationRecipe("static-w7c-a8", "mse", True, "empirical", "adaptive", ("conv1", "predictions"))
    assert recipe.asked().weight_bits == 7
    assert recipe.to_json() == {
        "scheme": "static-w7c-a8", "calibrator": "mse", "equalization": True, "bias-correction": "empirical",
        "rounding": "adaptive", "float-layers": ["conv1", "predictions"],
    }  # fmt: skip


def test_what_is_left_out_is_the_first_rung(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    assert load_quantization_recipe(path) == QuantizationRecipe()


@pytest.mark.parametrize("path", sorted((ROOT / "calibration" / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_that_ship_can_be_read(path: Path) -> None:
    assert load_quantization_recipe(path).to_json().keys() == QuantizationRecipe().to_json().keys()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (FULL[: len(FULL) // 2].encode(), "is not TOML"),  # cut off in the middle of a line
        (b"\xff\xfe\x00", "is not TOML"),
        (b'calibrator = "\xff"', "is not TOML"),
        (b'calibrator = "mse"\ncalibrator = "minmax"', "is not TOML"),
        (b"#" * (MAX_TOML_BYTES + 1), "larger than 1 MB"),
        (b"a = " + b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[scheme]\nname = 1", "scheme must be str"),
        (b'equalization = "yes"', "equalization must be bool"),
        (b"equalization = 1", "equalization must be bool"),
        (b"calibrator = 99.99", "calibrator must be str"),
        (b'float-layers = "conv1"', "float-layers must be list"),
        (b"float-layers = [1]", "float-layers must be names"),
        (b'float-layers = [["conv1"]]', "float-layers must be names"),
        (b'bias_correction = "empirical"', "unknown keys: 'bias_correction'"),
        (b'calibrator = "magic"', "magic"),
        (b'calibrator = "percentile-200"', "percentile-200"),
        (b'scheme = "static-w4c-a8"', "static-w4c-a8"),
        (b'scheme = "dynamic"', "dynamic"),
        (b'bias-correction = "some"', "bias-correction must be one of"),
        (b'rounding = "up"', "rounding must be one of"),
        (b'rounding = "adaptive"', 'needs bias-correction = "empirical"'),
        (b'bias-correction = "statistics"', "must be one of none, analytic, empirical, not 'statistics'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_damaged_or_wrong_is_refused_by_name(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    error = refused(path)
    assert error.code == "bad-quantization-recipe"
    assert problem in error.message
    assert len(error.message) < 1000


def test_what_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.toml").code == "no-quantization-recipe"
    assert refused(tmp_path).code == "no-quantization-recipe"


def test_float_layers_are_added_once() -> None:
    recipe = QuantizationRecipe(float_layers=("b",))
    assert with_float_layers(recipe, frozenset({"c", "a", "b"})).float_layers == ("b", "a", "c")
