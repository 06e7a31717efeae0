"""The table holds together with the recipe: each setting has one method, and each method can be switched off."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import pytest
from quantnets import batches, images, residual

from xxdeploy.quantize import Scheme, calibrate
from xxdeploy.quantize.methods.method import Draft, MethodContext, Stage
from xxdeploy.quantize.methods.registry import METHODS, Method, methods_of, rungs_above, settings_of, without_methods
from xxdeploy.quantize.recipe import QuantizationRecipe

PLAIN = QuantizationRecipe()
EVERYTHING = QuantizationRecipe("static-w7c-a8", "mse", True, "empirical", "adaptive", ("logits",))
RUNGS = [(rung, method) for method in METHODS for rung in method.rungs]


def test_each_setting_of_a_recipe_belongs_to_one_method() -> None:
    owners = Counter(name for method in METHODS for name in method.fields)
    assert set(owners.values()) == {1}
    assert {field.name for field in fields(PLAIN)} - set(owners) == {"scheme", "calibrator", "float_layers"}


@pytest.mark.parametrize(("rung", "method"), RUNGS, ids=[rung for rung, _ in RUNGS])
def test_a_rung_switches_its_method_on_and_no_other(rung: str, method: Method) -> None:
    asked = replace(PLAIN, **method.rungs[rung])
    assert [other for stage in Stage for other in methods_of(asked, stage)] == [method]
    assert without_methods(asked, method.stage) == PLAIN


def test_rungs_above_a_recipe_are_those_that_it_lacks() -> None:
    analytic, corrected = (replace(PLAIN, bias_correction=name) for name in ("analytic", "empirical"))
    rounded = settings_of(EVERYTHING, Stage.AFTER_RANGES)
    steps = (("analytic correction", analytic), ("bias correction", corrected), ("rounding", rounded))
    assert rungs_above(PLAIN, Stage.AFTER_RANGES) == steps
    assert rungs_above(analytic, Stage.AFTER_RANGES) == steps[1:]
    assert rungs_above(corrected, Stage.AFTER_RANGES) == steps[2:]
    assert rungs_above(rounded, Stage.AFTER_RANGES) == ()
    assert rungs_above(EVERYTHING, Stage.BEFORE_RANGES) == ()


def test_all_methods_of_a_stage_are_switched_off_together() -> None:
    assert tuple(method for stage in Stage for method in methods_of(EVERYTHING, stage)) == METHODS
    plain = without_methods(without_methods(EVERYTHING, Stage.AFTER_RANGES), Stage.BEFORE_RANGES)
    assert plain == QuantizationRecipe("static-w7c-a8", "mse", float_layers=("logits",))


def test_methods_before_ranges_come_first() -> None:
    stages = [method.stage for method in METHODS]
    assert stages == sorted(stages, key=list(Stage).index)
    assert [len(methods_of(PLAIN, stage)) for stage in Stage] == [0, 0]


def test_settings_of_a_stage_leave_out_all_others() -> None:
    assert settings_of(EVERYTHING, Stage.BEFORE_RANGES) == QuantizationRecipe(equalization=True)
    after = QuantizationRecipe(bias_correction="empirical", rounding="adaptive")
    assert settings_of(EVERYTHING, Stage.AFTER_RANGES) == after


@pytest.mark.parametrize(("rung", "method"), RUNGS, ids=[rung for rung, _ in RUNGS])
def test_every_method_makes_a_draft_that_can_be_quantized(rung: str, method: Method) -> None:
    model, seen = residual(), batches(images())
    ranges = calibrate(model, seen, data_digest="d") if method.stage is Stage.AFTER_RANGES else None
    context = MethodContext(seen, replace(PLAIN, **method.rungs[rung]))
    draft = method.apply(Draft(model, ranges), context)
    assert draft.model != model
    measured = calibrate(draft.model, seen, data_digest="d")
    assert replace(draft, ranges=draft.ranges or measured).quantized(Scheme()) != draft.model
