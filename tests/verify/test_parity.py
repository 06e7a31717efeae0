from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.results import Parity
from xxdeploy.verify import (
    EXACT_FEATURES,
    EXACT_PROBABILITIES,
    INT8_PROBABILITIES,
    INT8_SCORES,
    Tolerance,
    check,
    check_independence,
    compare,
)

F32 = NDArray[np.float32]


@dataclass
class Table:
    """A runner whose output for an image is the row that the image's first value names."""

    name: str
    rows: F32

    def run(self, batch: F32) -> F32:
        return np.take(self.rows, batch[:, 0, 0, 0].astype(int), axis=0)


def images(numbers: list[int], size: int) -> Iterator[F32]:
    for first in range(0, len(numbers), size):
        part = numbers[first : first + size]
        yield np.asarray(part, np.float32).reshape(-1, 1, 1, 1)


def tables(reference: object, candidate: object) -> tuple[Table, Table]:
    return Table("keras", np.asarray(reference, np.float32)), Table("onnx", np.asarray(candidate, np.float32))


def test_measures_by_hand() -> None:
    left, right = tables([[0.75, 0.25], [0.5, 0.25]], [[0.75, 0.25], [0.25, 0.5]])
    parity = compare(left, right, images([0, 1], 1))
    assert parity == Parity(
        reference="keras",
        stage="onnx",
        images=2,
        max_abs=0.25,
        mean_abs=0.125,
        max_rel=0.25 / 0.75,
        cosine=pytest.approx(0.25 / 0.3125),  # type: ignore[arg-type]
        agreement=0.5,
    )


def test_scores_are_what_the_softmax_was_given() -> None:
    scores = np.array([[4.0, 1, 0, -5], [1, 2, 3, 4]])
    made = [np.exp(each + shift) for each, shift in zip(scores, (7, -2), strict=True)]
    rows = [each / each.sum() for each in made]
    halved = [np.exp(score / 2) / np.exp(score / 2).sum() for score in scores]
    assert compare(*tables(rows, halved), images([0, 1], 2)).scores == pytest.approx(1, abs=1e-6)
    other = [rows[0], rows[1][::-1]]
    assert compare(*tables(rows, other), images([0, 1], 2)).scores == pytest.approx(-1, abs=1e-6)
    assert compare(*tables(rows, scores), images([0, 1], 2)).scores is None
    assert compare(*tables(rows, [rows[0], scores[1]]), images([0, 1], 1)).scores is None


def test_scores_see_what_probabilities_hide() -> None:
    """Scores near zero make probabilities that are all alike, however wrong they are; large ones exaggerate."""
    rng = np.random.default_rng(5)
    small = 1e-3 * rng.normal(size=(1, 100))
    wrong = 1e-3 * rng.normal(size=(1, 100))
    left, right = (np.exp(each) / np.exp(each).sum() for each in (small, wrong))
    parity = compare(*tables(left, right), images([0], 1))
    assert parity.cosine > 0.99999
    assert parity.scores is not None
    assert parity.scores < 0.5
    with pytest.raises(VerificationError, match="cosine of scores"):
        check(parity, INT8_SCORES)
    large = 14 * rng.normal(size=(1, 100))
    large[0, :2] = large.max() + 1
    noisy = large + 0.03 * 14 * rng.normal(size=(1, 100))
    noisy[0, :2] = large[0, :2] + (1.0, -1.0)
    left, right = (np.exp(each) / np.exp(each).sum() for each in (large, noisy))
    parity = compare(*tables(left, right), images([0], 1))
    assert parity.cosine < 0.9
    check(parity, INT8_SCORES)


@pytest.mark.parametrize("size", [1, 3, 16, 100])
def test_batch_sizes_do_not_matter(size: int) -> None:
    rng = np.random.default_rng(3)
    left, right = tables(rng.random((40, 7)), rng.random((40, 7)))
    whole, parts = (compare(left, right, images(list(range(40)), n)) for n in (40, size))
    assert parts.images == 40
    for measure in ("max_abs", "mean_abs", "max_rel", "cosine", "agreement"):
        assert getattr(parts, measure) == pytest.approx(getattr(whole, measure), rel=1e-12)


def test_memory_is_flat_in_the_number_of_images() -> None:
    rng = np.random.default_rng(3)
    left, right = tables(rng.random((8, 2000)), rng.random((8, 2000)))

    def peak(count: int) -> int:
        tracemalloc.start()
        compare(left, right, images([0] * count, 8))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(8)
    assert peak(2000) < peak(80) * 1.2 + 50_000


def test_features_of_any_rank_are_compared() -> None:
    left, right = tables(np.ones((2, 3, 3, 4)), np.full((2, 3, 3, 4), 2.0))
    parity = compare(left, right, images([0, 1], 2))
    assert (parity.max_abs, parity.max_rel, parity.cosine) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("left", "right", "cosine", "max_rel"),
    [([[0, 0]], [[0, 0]], 1.0, 0.0), ([[0, 0]], [[1, 0]], 0.0, np.inf), ([[1, 0]], [[0, 0]], 0.0, 1.0)],
)
def test_zero_outputs(left: object, right: object, cosine: float, max_rel: float) -> None:
    parity = compare(*tables(left, right), images([0], 1))
    assert (parity.cosine, parity.max_rel) == (cosine, max_rel)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_non_finite_outputs_fail(value: float, side: int) -> None:
    rows: list[F32] = [np.ones((3, 4), np.float32) for _ in range(2)]
    rows[side][2, 1] = value
    with pytest.raises(VerificationError) as caught:
        compare(*tables(*rows), images([0, 1, 2], 2))
    assert caught.value.code == "non-finite-output"
    assert f"{('keras', 'onnx')[side]} gave {value} for image 3 (value 1 of 4)" in caught.value.message


def test_other_output_sizes_fail() -> None:
    with pytest.raises(VerificationError, match="keras gives 3 values an image, onnx gives 4") as caught:
        compare(*tables(np.ones((1, 3)), np.ones((1, 4))), images([0], 1))
    assert caught.value.code == "output-shape"


def test_an_output_without_a_batch_axis_fails() -> None:
    with pytest.raises(VerificationError, match=r"shape \(2,\) for a batch of 2 images") as caught:
        compare(*tables(np.ones(2), np.ones(2)), images([0, 1], 2))
    assert caught.value.code == "output-shape"


@pytest.mark.parametrize("batches", [[], [np.zeros((0, 1, 1, 1), np.float32)]])
def test_no_images(batches: list[F32]) -> None:
    with pytest.raises(UsageError) as caught:
        compare(*tables([[1, 2]], [[1, 2]]), batches)
    assert caught.value.code == "no-images"


def test_the_stage_has_the_candidates_name_unless_it_is_named() -> None:
    named = compare(*tables([[1, 2]], [[1, 2]]), images([0], 1), stage="onnx-fp32", output="block", optimized=False)
    assert (named.stage, named.output, named.optimized) == ("onnx-fp32", "block", False)


def parity(**changes: Any) -> Parity:
    return replace(Parity("keras", "onnx-int8", 100, 0.0, 0.0, 0.0, 1.0, 1.0), **changes)


@pytest.mark.parametrize(
    ("tolerance", "good", "bad"),
    [
        (Tolerance("do", max_abs=0.5), {"max_abs": 0.5}, {"max_abs": 0.5000001}),
        (Tolerance("do", max_rel=0.5), {"max_rel": 0.5}, {"max_rel": np.inf}),
        (Tolerance("do", cosine=0.5), {"cosine": 0.5}, {"cosine": 0.4999999}),
        (Tolerance("do", agreement=0.5), {"agreement": 0.5}, {"agreement": 0.49}),
        (Tolerance("do", max_abs=0.5), {"cosine": 0.0, "agreement": 0.0}, {"max_abs": np.nan}),
        (Tolerance("do", cosine=0.5), {"max_abs": 9.0}, {"cosine": np.nan}),
        (Tolerance("do", scores=0.5), {"scores": 0.5, "cosine": 0.0}, {"scores": 0.49}),
        (Tolerance("do", scores=0.5), {"scores": 0.5}, {}),
        (EXACT_PROBABILITIES, {"max_abs": 9e-6}, {"max_abs": 2e-5}),
        (EXACT_FEATURES, {"max_abs": 5.0, "max_rel": 9e-5}, {"max_rel": 2e-4}),
        (INT8_PROBABILITIES, {"max_abs": 0.9, "cosine": 0.1, "agreement": 0.93}, {"agreement": 0.35}),
    ],
)
def test_each_limit_is_judged_alone(tolerance: Tolerance, good: dict[str, float], bad: dict[str, float]) -> None:
    check(parity(**good), tolerance)
    with pytest.raises(VerificationError) as caught:
        check(parity(**bad), tolerance)
    assert caught.value.code == "parity"
    assert caught.value.hint == tolerance.remedy


def test_the_message_names_each_measure_with_its_limit() -> None:
    with pytest.raises(VerificationError) as caught:
        check(parity(cosine=0.5, agreement=0.25), Tolerance("calibrate again", cosine=0.9, agreement=0.8))
    assert caught.value.render() == (
        "error[parity]: onnx-int8 does not match keras: lowest cosine 0.5 (at least 0.9), top-1 agreement 0.25 "
        "(at least 0.8), on 100 images\n hint: calibrate again"
    )


def test_a_tolerance_must_judge_something() -> None:
    with pytest.raises(ValueError, match="judges nothing"):
        Tolerance("do")
    with pytest.raises(ValueError, match="finite"):
        Tolerance("do", max_abs=np.nan)


@dataclass
class Shifted:
    """A runner that subtracts a share of the batch's mean, as a normalization in training mode does."""

    share: float
    name: str = "shifted"

    def run(self, batch: F32) -> F32:
        return self.run_all(batch)["a"]

    def run_all(self, batch: F32) -> dict[str, F32]:
        values = batch.mean(axis=(1, 2))
        return {"a": values - np.float32(self.share) * values.mean(axis=0)}


def test_a_model_that_mixes_the_pictures_of_a_batch_is_refused() -> None:
    pictures = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    pictures[1:] *= 0.5
    check_independence(Shifted(0.0), pictures)
    check_independence(Shifted(1e-4), pictures)  # kernels for other batch sizes round otherwise
    with pytest.raises(VerificationError, match="depends on the other pictures") as refused:
        check_independence(Shifted(0.1), pictures)
    assert refused.value.code == "mixed-batch"
