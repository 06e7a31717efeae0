"""Options outside their scope are refused; the values that no later step checks are checked here."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from unusual_options import options_with, unusual_value

from xxdeploy.errors import UsageError
from xxdeploy.exporter.option_fields import PRECISIONS
from xxdeploy.exporter.option_groups import Budgets
from xxdeploy.exporter.options import GROUPS, OPTIONS, ExportOptions
from xxdeploy.models.catalog import BuildOptions


def refusal(precision: str = "fp32", **values: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        ExportOptions.of(precision, **values)
    return caught.value


def test_no_option_has_the_name_of_another() -> None:
    assert len(OPTIONS) == len({option.field for option in OPTIONS.values()})


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_has_an_effect_or_is_refused(name: str) -> None:
    """In each precision, for each target and source, an option is accepted exactly where its scope says so."""
    option, value = OPTIONS[name], unusual_value(name)
    options = options_with(name)
    assert options.given()[option] == value
    assert options.changed(**{option.field: option.default}) != options
    for precision in PRECISIONS:
        if name in PRECISIONS or option.accepted_by(precision):
            continue
        with pytest.raises(UsageError) as caught:
            options.changed(int8=precision == "int8", fp16=precision == "fp16")
        assert caught.value.code == "int8-only"
    if option.scope.target is not None:
        other, code = {
            "cpu": ("tensorrt", "cpu-and-target"),
            "gpu": ("cpu", "target-missing"),
            "web": ("litert", "target-missing"),
        }[option.scope.target]
        with pytest.raises(UsageError) as caught:
            options.changed(target=other)
        assert caught.value.code == code
    for source, code in (("catalog", "model-file-only"), ("file", "catalog-only")):
        if option.scope.source in (None, source):
            options.check_source(source, hint="")  # type: ignore[arg-type]
            continue
        with pytest.raises(UsageError) as caught:
            options.check_source(source, hint="choose")  # type: ignore[arg-type]
        assert (caught.value.code, f"--{name} applies to" in caught.value.message) == (code, True)


def test_a_refusal_names_all_options_that_it_is_about() -> None:
    error = refusal(cpu="arm", recipe="auto", keep_fp32=True)
    assert error.message == "--recipe, --cpu and --keep-fp32 apply to INT8 only, and this export is FP32"
    assert error.hint == "add --int8, or leave out --recipe, --cpu and --keep-fp32"
    assert "INT8 and FP16 only" in refusal(min_agreement=98.0).message


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"precision": "fp64"}, "unknown-precision"),
        ({"int8": True, "fp16": True}, "two-precisions"),
        ({"precision": "int8", "cpu": "sse"}, "unknown-cpu"),
        ({"precision": "int8", "effort": "much"}, "unknown-effort"),
        ({"task": "segmentation"}, "unknown-task"),
        ({"precision": "int8", "ranges": "r.json", "method": "minmax"}, "ranges-given"),
        ({"target": "tpu"}, "unknown-target"),
        ({"target": "tensorrt-rtx", "gpu": "sm1"}, "unknown-gpu"),
        ({"target": "tensorrt-rtx", "batch": "3,2,1"}, "bad-batch"),
        ({"max_drop": -1.0}, "max-drop"),
        ({"precision": "int8", "min_agreement": 101.0}, "min-agreement"),
    ],
)
def test_values_that_are_refused(values: dict[str, Any], code: str) -> None:
    assert refusal(**values).code == code


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(value: float) -> None:
    with pytest.raises(UsageError) as caught:
        Budgets(max_size_mb=value)
    assert (caught.value.code, "--max-size-mb" in caught.value.message) == ("limit-invalid", True)


def test_the_values_that_keras_and_the_engine_get() -> None:
    options = ExportOptions.of("int8", alpha=0.5, no_top=True, pooling="avg", seed=3, target="tensorrt-rtx", gpu="86")
    assert options.build == BuildOptions(alpha=0.5, include_top=False, pooling="avg", seed=3)
    engine = options.gpu.engine
    assert engine is not None
    assert (engine.target, engine.gpus, engine.batch.max) == ("tensorrt-rtx", ("sm86",), 8)
    assert ExportOptions().gpu.engine is None
    with pytest.raises(TypeError, match="smaples"):
        options.changed(smaples=3)


def test_the_groups_are_those_of_the_help_screen() -> None:
    assert list(GROUPS) == ["network", "precision", "gpu", "proof", "budgets", "output"]


def test_the_command_line_of_a_device_can_read_the_options() -> None:
    code = "import sys, xxdeploy.exporter.options; print({'numpy', 'onnx', 'PIL', 'jinja2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
