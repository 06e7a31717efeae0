"""Which recipe the ladder starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hardnets import network, weights

from xxdeploy.errors import UsageError
from xxdeploy.exporter.inputs import Inputs
from xxdeploy.exporter.int8 import starting_recipe
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.source import Source
from xxdeploy.models.catalog import BuildOptions
from xxdeploy.models.samples import shipped_folder
from xxdeploy.quantize.recipe import QuantizationRecipe, load_quantization_recipe
from xxdeploy.results import ModelOutput
from xxdeploy.runtime.image.preprocess import Preprocess

if TYPE_CHECKING:
    import keras

MOBILENET = load_quantization_recipe(shipped_folder() / "recipes" / "mobilenet.toml")


def start(plan: ExportOptions, name: str = "mobilenet", **changes: object) -> tuple[QuantizationRecipe, str, bool]:
    inputs = Inputs(
        BuildOptions(), Preprocess(224, 224), ModelOutput("probabilities", 1000), None, None, None, None, None, ()
    )
    inputs = replace(inputs, **changes)  # type: ignore[arg-type]
    source = Source(name, name, plan.network.weights != "none", cast("keras.Model", None), inputs, {}, ())
    return starting_recipe(source, plan, network(weights()))


def test_a_network_starts_from_its_own_recipe_and_may_climb() -> None:
    assert start(ExportOptions.of("int8")) == (MOBILENET, "recipe mobilenet", False)


@pytest.mark.parametrize(
    ("plan", "name", "changes"),
    [
        (ExportOptions.of("int8", recipe="auto"), "mobilenet", {}),
        (ExportOptions.of("int8"), "densenet121", {}),  # none ships for it
        (ExportOptions.of("int8", weights="none"), "mobilenet", {}),  # tuned for trained weights
        (ExportOptions.of("int8"), "mobilenet", {"output": ModelOutput("features", None)}),  # and for the classes
    ],
)
def test_all_others_start_from_the_first_rung(plan: ExportOptions, name: str, changes: dict[str, object]) -> None:
    assert start(plan, name, **changes) == (QuantizationRecipe(), "plain", False)


def test_a_recipe_is_pinned_by_its_name_or_file(tmp_path: Path) -> None:
    assert start(ExportOptions.of("int8", recipe="mobilenet"), "lenet") == (MOBILENET, "recipe mobilenet", True)
    path = tmp_path / "mine.toml"
    path.write_text('calibrator = "mse"')
    assert start(ExportOptions.of("int8", recipe=str(path))) == (
        QuantizationRecipe(calibrator="mse"),
        "recipe mine",
        True,
    )


def test_a_file_here_goes_before_a_name_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobilenet").write_text('calibrator = "entropy"')
    assert start(ExportOptions.of("int8", recipe="mobilenet"))[0] == QuantizationRecipe(calibrator="entropy")


def test_layers_that_the_network_does_not_have_are_left_out_of_what_ships_but_not_of_what_is_asked() -> None:
    shipped = load_quantization_recipe(shipped_folder() / "recipes" / "nasnetmobile.toml")
    assert shipped.float_layers
    recipe, _, pinned = start(ExportOptions.of("int8"), "nasnetmobile")
    assert (recipe, pinned) == (replace(shipped, float_layers=()), False)
    assert start(ExportOptions.of("int8", recipe="nasnetmobile"))[0] == shipped


def test_the_method_of_the_command_line_goes_before_the_recipes() -> None:
    recipe, _, pinned = start(ExportOptions.of("int8", recipe="mobilenet"), method="minmax")
    assert (recipe, pinned) == (replace(MOBILENET, calibrator="minmax"), True)


@pytest.mark.parametrize("name", ["mobilnet", "absent.toml", "no/such.toml", "", "..", "../sample"])
def test_a_recipe_that_is_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        start(ExportOptions.of("int8", recipe=name))
    assert caught.value.code in ("no-quantization-recipe", "bad-quantization-recipe")


def test_the_hint_lists_what_ships() -> None:
    with pytest.raises(UsageError) as caught:
        start(ExportOptions.of("int8", recipe="mobilnet"))
    shipped = sorted(path.stem for path in (shipped_folder() / "recipes").glob("*.toml"))
    assert {"mobilenet", "mobilenetv2", "nasnetmobile"} <= set(shipped)
    assert caught.value.hint.endswith(", ".join(shipped))
