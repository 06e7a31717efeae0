"""What stages are held to, and in which batches pictures go through them."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from graphnets import parse

from xxdeploy.errors import VerificationError
from xxdeploy.exporter import ExportOptions
from xxdeploy.exporter.promises import warnings_about
from xxdeploy.exporter.result import Lowered
from xxdeploy.exporter.stages import (
    Remembered,
    conclude,
    prove_stage,
    tolerance_for,
    uneven_batches,
)
from xxdeploy.results import Accuracy, DomainRecord, Evidence
from xxdeploy.verify import (
    EXACT_PROBABILITIES,
    FP16_SCORES,
    INT8_FEATURES,
    INT8_PROBABILITIES,
    INT8_SCORES,
)


def test_batches_are_uneven_and_hold_every_image_once() -> None:
    images = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1)
    batches = uneven_batches([images[:8], images[8:16], images[16:]], 18)
    assert [len(batch) for batch in batches] == [1, 4, 4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate(batches), images[:18])


def test_random_weights_are_judged_by_their_scores() -> None:
    assert tolerance_for("classification", "int8", trained=False) is INT8_SCORES
    assert tolerance_for("classification", "fp16", trained=False) is FP16_SCORES
    assert tolerance_for("classification", "int8", trained=True) is INT8_PROBABILITIES
    assert tolerance_for("features", "int8", trained=False) is INT8_FEATURES


def test_the_hint_of_random_weights_does_not_ask_for_other_images() -> None:
    assert "--weights" in INT8_SCORES.remedy
    assert "calibrate" not in INT8_SCORES.remedy


def test_an_accuracy_of_chance_is_a_warning() -> None:
    guess, good = (Accuracy("keras", top1, None, (0,) * 200) for top1 in (0.12, 0.2))
    (warning,) = warnings_about((guess,), 10)
    assert "right on 12.0 % of the 200 evaluation images, no better than chance (10.0 % with 10 classes)" in warning
    assert warnings_about((good,), 10) == ()
    assert warnings_about((), 10) == warnings_about((guess,), None) == ()


class _Fixed:
    """A runner that gives the same output for any batch."""

    name = "keras"

    def __init__(self, output: np.ndarray) -> None:
        self._output = output

    def run(self, batch: np.ndarray) -> np.ndarray:
        return self.run_all(batch)["probabilities"]

    def run_all(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return {"probabilities": self._output[: len(batch)]}


@pytest.mark.parametrize(
    ("rounding", "difference", "passes"),
    [(None, 3e-5, False), (1e-7, 3e-5, False), (1e-5, 3e-5, True), (1e-5, 5e-5, False), (0.1, 2e-3, False)],
)
def test_the_limit_of_float_stages_follows_the_rounding_of_the_model(
    rounding: float | None, difference: float, passes: bool
) -> None:
    """3e-5 is right for a model whose float32 is off by 1e-5 from float64; 2e-3 is wrong for every model."""
    text = "g (float[n, 2] image) => (float[n, 2] probabilities) { probabilities = Identity(image) }"
    model, batch = parse(text), np.array([[0.5, 0.5]], np.float32)
    keras = _Fixed(batch + np.array([[difference, -difference]], np.float32))
    exact = keras.run(batch) + np.array([[1, -1]]) * (rounding or 0.0)
    reference = Remembered(keras, None if rounding is None else (lambda _: {"probabilities": exact}))
    if passes:
        assert prove_stage(reference, model, "onnx-fp32", [batch], {"probabilities": EXACT_PROBABILITIES})
    else:
        with pytest.raises(VerificationError) as caught:
            prove_stage(reference, model, "onnx-fp32", [batch], {"probabilities": EXACT_PROBABILITIES})
        assert caught.value.code == "parity"


def test_a_runner_that_is_finished_is_gone_and_its_answers_stay() -> None:
    batch = np.array([[0.5, 0.5]], np.float32)
    runner = _Fixed(batch)
    alive, remembered = weakref.ref(runner), Remembered(runner)
    del runner
    assert alive() is not None
    remembered.finish([batch])
    assert alive() is None
    np.testing.assert_array_equal(remembered.run(batch), batch)


def test_a_domain_check_is_a_warning_or_a_sentence() -> None:
    for p_value, differing in ((0.0003, 2), (0.4, 0)):
        domain = DomainRecord(64, 64, 5, (1, 2), differing, p_value, ())
        concluded = conclude(ExportOptions.of("int8"), Lowered((), evidence=Evidence(domain=domain)), (), (), 10)
        shown = concluded.warnings if domain.warns else concluded.sentences
        assert shown == (domain.sentence,)
        assert not (concluded.sentences if domain.warns else concluded.warnings)


def test_doubts_about_the_input_are_the_first_warnings() -> None:
    accuracies = (Accuracy("keras", 0.0, None, (0, 0)),)
    concluded = conclude(ExportOptions(), Lowered(()), accuracies, (), 4).warned("WARNING: a doubt")
    assert concluded.warnings[0] == "WARNING: a doubt"
    assert "no better than chance" in concluded.warnings[1]


class _Changing(_Fixed):
    """A runner that gives the next rows of its output."""

    def run_all(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        rows, self._output = self._output[: len(batch)], self._output[len(batch) :]
        return {"probabilities": rows}


@pytest.mark.parametrize(
    ("wrong", "unoptimized"),
    [((), 9), ((0,), 9), ((0, 1), 17), ((11,), 9), ((0, 1, 2), 17), ((0, 1, 2, 3), None), ((9, 10, 11, 12), None)],
)
def test_without_optimizations_few_images_are_judged_and_all_where_these_fail(
    wrong: tuple[int, ...], unoptimized: int | None
) -> None:
    """Of 9 images 8 must agree, of 17 images 14."""
    text = "g (float[n, 2] image) => (float[n, 2] probabilities) { probabilities = Identity(image) }"
    images = np.tile(np.array([[0.9, 0.1]], np.float32), (17, 1))
    batches = [images[:1], *(images[start : start + 4] for start in range(1, 17, 4))]
    outputs = images.copy()
    outputs[list(wrong)] = outputs[list(wrong), ::-1]
    reference, limits = Remembered(_Changing(outputs)), {"probabilities": INT8_PROBABILITIES}
    if unoptimized is None:
        with pytest.raises(VerificationError, match="on 17 images") as caught:
            prove_stage(reference, parse(text), "onnx-int8", batches, limits)
        assert caught.value.code == "parity"
    else:
        parities = prove_stage(reference, parse(text), "onnx-int8", batches, limits)
        assert [(parity.images, parity.optimized) for parity in parities] == [(unoptimized, False), (17, True)]
