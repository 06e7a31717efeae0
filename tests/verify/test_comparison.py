from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.results import ComparisonRecord, Progress
from xxdeploy.verify import (
    compare_with,
    evaluate,
    judge_paired,
    mcnemar_exact,
    paired_difference_interval,
    record_reference,
    wilson_interval,
)

Floats = NDArray[np.float32]


class Table:
    """A runner that looks its outputs up: image ``i`` is filled with the number ``i``."""

    def __init__(self, name: str, outputs: Floats) -> None:
        self.name, self.outputs = name, outputs
        self.widest = 0

    def run(self, batch: Floats) -> Floats:
        self.widest = max(self.widest, len(batch))
        rows: Floats = self.outputs[batch[:, 0, 0, 0].astype(int)]
        return rows


def images(count: int, batch: int = 4) -> list[Floats]:
    data = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 2, 2, 3))
    return [data[start : start + batch] for start in range(0, count, batch)]


def probabilities(seed: int, count: int = 23, classes: int = 6) -> Floats:
    values = np.random.default_rng(seed).gamma(0.5, size=(count, classes))
    shares: Floats = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def brute_kl(p: Floats, q: Floats) -> float:
    rows = [
        sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(x, y, strict=True) if a > 0)
        for x, y in zip(p, q, strict=True)
    ]
    return sum(rows) / len(rows)


def test_every_figure_against_a_slow_count() -> None:
    p, q = probabilities(1), probabilities(2)
    labels = np.random.default_rng(3).integers(0, 6, 23).tolist()
    comparison = judge_paired(p, q, labels, names=("keras", "int8"))

    before = [int(np.argmax(row)) for row in p]
    after = [int(np.argmax(row)) for row in q]
    gained = sum(a != t == b for a, b, t in zip(before, after, labels, strict=True))
    lost = sum(a == t != b for a, b, t in zip(before, after, labels, strict=True))
    right = sum(a == t for a, t in zip(before, labels, strict=True))
    agreeing = sum(a == b for a, b in zip(before, after, strict=True))
    assert gained > 0
    assert lost > 0
    assert (comparison.reference, comparison.candidate, comparison.images) == ("keras", "int8", 23)
    assert (comparison.agreeing, comparison.right) == (agreeing, (right, right + gained - lost))
    assert comparison.agreement == agreeing / 23
    assert comparison.agreement_interval == wilson_interval(agreeing, 23)
    assert comparison.change is not None
    assert (comparison.change.gained, comparison.change.lost) == (gained, lost)
    assert comparison.change.interval == paired_difference_interval(gained, lost, 23)
    assert comparison.change.p_value == mcnemar_exact(gained, lost)
    assert comparison.kl_mean == pytest.approx(brute_kl(p, q), rel=1e-5)
    noise = float(((p.astype(float) - q) ** 2).sum())
    assert comparison.sqnr_db == pytest.approx(10 * math.log10(float((p.astype(float) ** 2).sum()) / noise))
    cosine = min(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in zip(p, q, strict=True))
    assert comparison.cosine == pytest.approx(cosine, abs=1e-6)


def test_kl_by_hand() -> None:
    p = np.array([[0.5, 0.5], [1.0, 0.0]], np.float32)
    q = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    # 0.5 ln 2 + 0.5 ln(2/3), and ln 2: a class that the reference excludes adds nothing.
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3) + math.log(2)) / 2
    assert judge_paired(p, q).kl_mean == pytest.approx(expected, rel=1e-6)
    excluded = judge_paired(q[1:], p[1:]).kl_mean  # the candidate is certain and wrong by half: bounded, not infinite
    assert excluded is not None
    assert 30 < excluded < 50
    assert judge_paired(p, p).kl_mean == 0.0


def test_streaming_gives_the_same_as_all_at_once_whatever_the_batches() -> None:
    p, q = probabilities(4), probabilities(5)
    labels = [index % 6 for index in range(23)]
    reference = record_reference(Table("float", p), images(23, 8))
    candidate = Table("int8", q)
    reports: list[Progress] = []
    comparison = compare_with(reference, candidate, images(23, 3), labels, on_progress=reports.append)
    whole = judge_paired(p, q, labels, names=("float", "int8"))
    assert candidate.widest == 3
    assert comparison.kl_mean == pytest.approx(whole.kl_mean, rel=1e-12)
    assert comparison.sqnr_db == pytest.approx(whole.sqnr_db, rel=1e-12)
    assert (comparison.change, comparison.agreeing, comparison.right) == (whole.change, whole.agreeing, whole.right)
    assert reports[-1] == Progress("compare int8", 23, 23)
    np.testing.assert_array_equal(reference.outputs, p)


def test_without_labels_there_is_no_change() -> None:
    comparison = judge_paired(probabilities(1), probabilities(2))
    assert comparison.change is None
    assert comparison.right is None
    assert comparison.top1 is None
    assert comparison.agreement is not None


def test_features_have_no_classes() -> None:
    left = np.array([[3.0, -4.0], [0.0, 1.0]], np.float32)
    comparison = judge_paired(left, left * np.float32(0.9), classes=False)
    assert (comparison.agreement, comparison.agreement_interval, comparison.kl_mean, comparison.change) == (None,) * 4
    assert comparison.sqnr_db == pytest.approx(20, abs=1e-4)
    assert comparison.cosine == pytest.approx(1)
    with pytest.raises(ValueError, match="no classes"):
        judge_paired(left, left, [0, 1], classes=False)


def test_scores_that_are_no_probabilities_have_no_divergence() -> None:
    logits = np.array([[3.0, -4.0], [0.0, 1.0]], np.float32)
    comparison = judge_paired(logits, logits[:, ::-1].copy())
    assert comparison.kl_mean is None
    assert comparison.agreement == 0.0


def test_one_batch_of_other_scores_ends_the_divergence() -> None:
    p = probabilities(1, count=8)
    wrong = p.copy()
    wrong[1] *= 3
    reference = record_reference(Table("a", p), images(8))
    assert compare_with(reference, Table("b", wrong), images(8)).kl_mean is None


def test_equal_and_dead_outputs() -> None:
    p = probabilities(1)
    assert judge_paired(p, p).sqnr_db == 200.0
    zero = np.zeros((2, 3), np.float32)
    comparison = judge_paired(zero, zero, classes=False)
    assert (comparison.sqnr_db, comparison.cosine) == (None, 1.0)
    comparison = judge_paired(zero, zero + 1, classes=False)
    assert (comparison.sqnr_db, comparison.cosine) == (-200.0, 0.0)


def test_what_does_not_fit() -> None:
    p = probabilities(1, count=8)
    reference = record_reference(Table("a", p), images(8))
    with pytest.raises(ValueError, match="did not see the images"):
        compare_with(reference, Table("b", p), images(8)[::-1])
    with pytest.raises(ValueError, match="more than the 8 images"):
        compare_with(reference, Table("b", np.tile(p, (2, 1))), images(12))
    with pytest.raises(ValueError, match="did not see the images"):
        compare_with(reference, Table("b", p), images(4))
    with pytest.raises(ValueError, match="7 labels for 8 images"):
        compare_with(reference, Table("b", p), images(8), [0] * 7)
    with pytest.raises(VerificationError) as shape:
        compare_with(reference, Table("b", p[:, :5]), images(8))
    assert shape.value.code == "output-shape"
    with pytest.raises(VerificationError) as nan:
        compare_with(reference, Table("b", p * np.float32("nan")), images(8))
    assert nan.value.code == "non-finite-output"
    with pytest.raises(UsageError) as label:
        compare_with(reference, Table("b", p), images(8), [0] * 7 + [6])
    assert label.value.code == "label-range"
    with pytest.raises(UsageError) as empty:
        record_reference(Table("a", p), [])
    assert empty.value.code == "no-images"
    with pytest.raises(ValueError, match="saw 4 images, reference 8"):
        judge_paired(p, p[:4])


def test_the_sentence_and_the_facts() -> None:
    p = np.tile(np.array([[0.5, 0.25, 0.25]], np.float32), (10, 1))
    q = p.copy()
    q[0], q[1] = [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]
    comparison = judge_paired(p, q, [1, 0, *([0] * 6), 2, 2], names=("keras", "onnx-int8"))
    assert comparison.sentence == (
        "top-1 70.0 -> 70.0 %, lost 0.0 points (95 % CI -32.7 to 32.7, McNemar p 1.00), "
        "same class on 80.0 % of the images (95 % CI 49.0 to 94.3), KL 0.035 (10 images)"
    )
    assert asdict(comparison.record) == {
        "reference": "keras", "candidate": "onnx-int8", "images": 10, "sqnr_db": 11.8, "cosine": 0.8333,
        "agreement": 0.8, "agreement_interval": (0.4902, 0.9433), "kl_nats": 0.0347, "top1": (0.7, 0.7),
        "change": 0.0, "change_interval": (-0.3267, 0.3267), "gained": 1, "lost": 1, "mcnemar_p": 1.0,
        "scores": {"mean": 0.0, "p5": 0.0, "p95": 0.0, "calibration_error": (0.2, 0.2), "threshold": None},
            "figures": (),
    }  # fmt: skip


def test_the_sentence_of_features() -> None:
    left = np.array([[3.0, -4.0]], np.float32)
    comparison = judge_paired(left, left * np.float32(0.9), classes=False)
    assert comparison.sentence == "SQNR 20.0 dB, lowest cosine 1.0000 (1 image)"
    assert comparison.record == ComparisonRecord("reference", "candidate", 1, 1.0, 20.0)


class Echo:
    """A runner whose scores for an image are the image's own values."""

    name = "echo"

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return batch.reshape(len(batch), -1)


def batches(scores: object, size: int = 2) -> Iterator[NDArray[np.float32]]:
    rows = np.asarray(scores, np.float32)
    for first in range(0, len(rows), size):
        yield rows[first : first + size, None, None, :]


def test_top1_and_top5_by_hand() -> None:
    scores = np.eye(8)[[0, 1, 2, 3]] * 9 + np.arange(8, 0, -1)  # best is the diagonal, then 0, 1, 2...
    accuracy = evaluate(Echo(), batches(scores), [0, 4, 7, 0])
    # right; fifth of 1 0 2 3 4; last of all; second
    assert (accuracy.top1, accuracy.top5) == (1 / 4, 3 / 4)
    assert accuracy.classes == (0, 1, 2, 3)
    assert (accuracy.runner, accuracy.images) == ("echo", 4)


@pytest.mark.parametrize("size", [1, 2, 7, 50])
def test_batch_sizes_do_not_matter(size: int) -> None:
    rng = np.random.default_rng(5)
    scores, labels = rng.random((50, 10)), [int(i) for i in rng.integers(0, 10, 50)]
    assert evaluate(Echo(), batches(scores, size), labels) == evaluate(Echo(), batches(scores, 50), labels)


def test_ties_go_to_the_lowest_class() -> None:
    scores = [[1, 1, 1, 1, 1, 1, 1]] * 3
    accuracy = evaluate(Echo(), batches(scores), [0, 4, 5])
    assert accuracy.classes == (0, 0, 0)
    assert (accuracy.top1, accuracy.top5) == (1 / 3, 2 / 3)


def test_fewer_than_five_classes() -> None:
    accuracy = evaluate(Echo(), batches([[1, 0], [1, 0]]), [0, 1])
    assert (accuracy.top1, accuracy.top5) == (0.5, 1.0)


def test_without_labels_only_the_classes_are_noted() -> None:
    accuracy = evaluate(Echo(), batches([[0, 1], [1, 0]]), None)
    assert (accuracy.top1, accuracy.top5, accuracy.classes) == (None, None, (1, 0))


def test_progress_counts_images_of_the_labels() -> None:
    seen: list[Progress] = []
    evaluate(Echo(), batches([[0, 1]] * 3), [1, 1, 1], on_progress=seen.append)
    assert seen == [Progress("accuracy echo", 2, 3), Progress("accuracy echo", 3, 3)]


def test_no_images() -> None:
    with pytest.raises(UsageError) as caught:
        evaluate(Echo(), [], [])
    assert caught.value.code == "no-images"


@pytest.mark.parametrize("label", [-1, 2, 999])
def test_labels_of_another_data_set(label: int) -> None:
    with pytest.raises(UsageError, match=f"image 3 has class {label}, but the model has 2 classes") as caught:
        evaluate(Echo(), batches([[0, 1]] * 3), [0, 1, label])
    assert caught.value.code == "label-range"


@pytest.mark.parametrize("count", [2, 4])
def test_labels_must_be_as_many_as_images(count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} labels for"):
        evaluate(Echo(), batches([[0, 1]] * 3), [0] * count)


def test_non_finite_scores_fail() -> None:
    with pytest.raises(VerificationError) as caught:
        evaluate(Echo(), batches([[0, 1], [np.nan, 1]]), None)
    assert caught.value.code == "non-finite-output"
