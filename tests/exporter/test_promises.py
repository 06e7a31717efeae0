"""Promises: which a task can have, and whether they are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.exporter import ExportOptions
from xxdeploy.exporter.promises import check_evaluation, check_top_k, keep_promises
from xxdeploy.quantize.recipe import QuantizationRecipe, load_quantization_recipe
from xxdeploy.results import LayerNoise, ModelOutput
from xxdeploy.verify import Comparison, judge_paired

CLASSES = ModelOutput("probabilities", 10)
PICTURE = ModelOutput("picture", None, "image", (16, 16, 1), (0.0, 1.0))
MASK = ModelOutput("mask", 3, "image", (4, 4, 3))
VALUES = ModelOutput("values", None, "values", (2,))


def test_without_labels_the_promise_is_held_to_images_held_back() -> None:
    """The AVX2 file is another model, and has to keep it, too."""
    scores = np.eye(10, dtype=np.float32)[np.arange(50) % 10]
    worse = np.roll(scores, 1, axis=1)
    worse[5:] = scores[5:]
    good, bad = (
        judge_paired(scores, other, names=("onnx-fp32", name))
        for name, other in (("onnx-int8", scores), ("onnx-int8-avx2", worse))
    )
    plan = ExportOptions.of("int8", min_agreement=90.0)
    kept = keep_promises(plan, (), (good, bad))
    assert [sentence.partition(":")[0] for sentence in kept.sentences if "top-1 score" not in sentence] == [
        "onnx-int8",
        "onnx-int8-avx2",
    ]
    assert [line.partition(":")[0] for line in kept.promises] == [
        "PASS min-agreement 90 (onnx-int8)", "PASS min-agreement 90 (onnx-int8-avx2)",
    ]  # fmt: skip
    assert all("50 images" in line for line in kept.promises)
    for asked in (95.0, 100.0):
        with pytest.raises(VerificationError) as caught:
            keep_promises(plan.changed(min_agreement=asked), (), (good, bad))
        assert caught.value.code == "agreement-low"
        assert caught.value.message.startswith(f"FAIL min-agreement {asked:g} (onnx-int8-avx2): 90.0 % of the images")


def test_the_hint_has_the_recipe_of_the_file_with_more_layers_in_float(tmp_path: Path) -> None:
    scores = np.eye(10, dtype=np.float32)[np.arange(50) % 10]
    bad = judge_paired(scores, np.roll(scores, 1, axis=1), names=("onnx-fp32", "onnx-int8"))
    noise = [LayerNoise(name, "Conv", 9.0, None, None, None, None) for name in ("body/a", "b", "c", "d")]
    recipe = QuantizationRecipe(calibrator="mse", equalization=True, bias_correction="analytic", float_layers=("b",))
    with pytest.raises(VerificationError) as caught:
        keep_promises(ExportOptions.of("int8", min_agreement=90.0), (), (bad,), noise, recipe.to_json())
    assert caught.value.hint is not None
    (tmp_path / "mine.toml").write_text(caught.value.hint.partition("text file with\n")[2], encoding="utf-8")
    expected = replace(recipe, float_layers=("b", "body/a", "c"))
    assert load_quantization_recipe(tmp_path / "mine.toml") == expected


def test_strict_holds_the_interval_to_the_promise() -> None:
    scores = np.eye(10, dtype=np.float32)[np.arange(50) % 10]
    same = judge_paired(scores, scores, names=("onnx-fp32", "onnx-int8"))
    plan = ExportOptions.of("int8", min_agreement=98.0)
    assert keep_promises(plan, (), (same,)).promises
    with pytest.raises(VerificationError) as caught:
        keep_promises(plan.changed(strict=True), (), (same,))
    assert caught.value.code == "promise-unproven"
    assert "FAIL min-agreement 98 (onnx-int8): 100.0 % of the images" in caught.value.message
    assert keep_promises(plan.changed(strict=True, min_agreement=90.0), (), (same,)).promises


def test_the_shift_of_scores_has_a_sentence_but_not_for_float32() -> None:
    before = np.array([[0.4, 0.6], [0.9, 0.1]], np.float32)
    floats = judge_paired(before, before, names=("keras", "onnx-fp32"))
    int8 = judge_paired(before, np.array([[0.6, 0.4], [0.9, 0.1]], np.float32), names=("keras", "onnx-int8"))
    sentences = keep_promises(ExportOptions.of("int8"), (floats, int8)).sentences
    assert int8.scores is not None
    assert sentences[1:] == (f"onnx-int8: {int8.scores.sentence}",)
    assert "threshold 0.25 decides most like 0.5 in float: 0 images differ (1 at 0.5)" in sentences[1]
    assert len(keep_promises(ExportOptions.of("fp32"), (floats,)).sentences) == 1


@pytest.mark.parametrize(
    ("output", "asked", "said"),
    [
        (VALUES, {"min_psnr": 40.0}, "--min-psnr does not apply to values: promise --max-error instead"),
        (VALUES, {"max_drop": 1.0}, "--max-drop does not apply to values: promise --max-error instead"),
        (PICTURE, {"min_iou": 0.9}, "--min-iou does not apply to pictures: promise --min-psnr instead"),
        (
            MASK,
            {"min_agreement": 98.0},
            "--min-agreement does not apply to masks of classes: promise --min-iou",
        ),
        (CLASSES, {"max_error": 2.0}, "export the model with --task values"),
        (ModelOutput("features", None), {"min_iou": 0.9}, "export the model with --task image"),
    ],
)
def test_a_promise_of_another_task_is_refused_with_the_right_one(
    output: ModelOutput, asked: dict[str, float], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check_evaluation(ExportOptions.of("int8", **asked), output)
    assert caught.value.code == "promise-task"
    assert said in f"{caught.value.message}: {caught.value.hint}"


def test_figures_need_images_and_int8_has_some() -> None:
    check_evaluation(ExportOptions.of("int8", min_psnr=40.0), PICTURE)
    for precision in ("fp32", "fp16"):
        with pytest.raises(UsageError) as caught:
            check_evaluation(ExportOptions.of(precision, min_psnr=40.0), PICTURE)
        assert caught.value.code == "promise-without-eval"


@pytest.mark.parametrize("output", [PICTURE, MASK, VALUES])
def test_only_classifiers_have_best_classes(output: ModelOutput) -> None:
    check_top_k(None, output)
    with pytest.raises(UsageError, match=f"--task {output.task}") as caught:
        check_top_k(5, output)
    assert caught.value.code == "top-k-invalid"


def compared(output: ModelOutput, noise: float, images: int = 40) -> Comparison:
    random = np.random.default_rng(0)
    right: NDArray[np.float32] = random.random((images, int(np.prod(output.shape)))).astype(np.float32)
    wrong = (right + noise * random.normal(size=right.shape)).astype(np.float32)
    return judge_paired(right, wrong, classes=False, output=output, names=("keras", "onnx-int8"))


@pytest.mark.parametrize(
    ("output", "option", "kept", "broken", "code"),
    [
        (PICTURE, "min_psnr", 35.0, 45.0, "psnr-low"),
        (MASK, "min_iou", 0.9, 0.999, "iou-low"),
        (VALUES, "max_error", 0.1, 0.001, "error-high"),
    ],
)
def test_a_figure_is_held_to_its_promise(
    output: ModelOutput, option: str, kept: float, broken: float, code: str
) -> None:
    comparison = compared(output, 0.01)
    plan = ExportOptions.of("int8", strict=True, **{option: kept})
    (line,) = keep_promises(plan, (), (comparison,)).promises
    assert line.startswith(f"PASS {option.replace('_', '-')} {kept:g} (onnx-int8): ")
    assert "95 % CI" in line
    assert line.endswith("40 images")
    with pytest.raises(VerificationError, match=f"FAIL {option.replace('_', '-')}") as caught:
        keep_promises(plan.changed(**{option: broken}), (), (comparison,))
    assert caught.value.code == code


def test_a_few_images_prove_nothing() -> None:
    plan = ExportOptions.of("int8", min_psnr=35.0)
    comparison = compared(PICTURE, 0.01, images=3)
    assert "the interval exceeds the promise, about 10 images" in keep_promises(plan, (), (comparison,)).promises[0]
    with pytest.raises(VerificationError) as caught:
        keep_promises(plan.changed(strict=True), (), (comparison,))
    assert caught.value.code == "promise-unproven"
