from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.results import ModelOutput
from xxdeploy.verify import evaluate_texts, judge_paired
from xxdeploy.verify.strings import character_errors, edit_distance, texts_of

OUTPUT = ModelOutput("steps", 3, "sequence", (4, 3), blank=2, names=("a", "b", "<blank>"), truths=("ab", "ba", ""))


def steps(*texts: str) -> NDArray[np.float32]:
    """Return outputs (n, 4 * 3) that read as ``texts``; ``-`` is the blank."""
    rows = [[("ab-").index(character) for character in text.ljust(4, "-")] for text in texts]
    classes = np.asarray(0.9 * np.eye(3) + 0.1 / 3, np.float32)
    return np.asarray(classes[np.asarray(rows)].reshape(len(texts), -1), np.float32)


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("abc", "abd", 1), ("ab", "ba", 2), ("plate", "late", 1)],
)
def test_the_distance_of_levenshtein(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance


def test_errors_count_by_true_characters() -> None:
    assert character_errors(["ab", "x"], ["ab", "abcd"]) == pytest.approx(4 / 6)
    assert character_errors([""], [""]) == 0


def test_a_comparison_is_of_whole_texts() -> None:
    before, after = steps("aab", "b-b", "ba"), steps("ab", "b", "ba")
    assert texts_of(before, OUTPUT) == ["ab", "bb", "ba"]
    compared = judge_paired(before, after, classes=False, output=OUTPUT)
    assert (compared.agreeing, compared.right, compared.loss) == (2, None, None)
    assert (compared.kl_mean or 0) > 0
    assert [figure.name for figure in compared.figures] == ["same_texts", "changed_characters"]
    assert compared.figures[1].value == pytest.approx(1 / 6)
    assert "same texts 66.7 %" in compared.sentence
    assert "class" not in compared.sentence


def test_with_true_texts_gains_and_losses_are_counted() -> None:
    before, after = steps("ab", "ab", "a"), steps("ab", "ba", "-")
    compared = judge_paired(before, after, [0, 1, 2], classes=False, output=OUTPUT)
    assert compared.right == (1, 3)
    assert compared.change is not None
    assert (compared.change.gained, compared.change.lost) == (2, 0)
    assert [figure.name for figure in compared.figures] == ["same_texts", "right_texts", "wrong_characters"]
    assert "right texts 33.3 -> 100.0 %" in compared.sentence


def test_an_evaluation_numbers_the_texts() -> None:
    class Fake:
        name = "fake"

        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            return steps("ab", "bb").reshape(len(batch), 4, 3)

    known = {text: number for number, text in enumerate(OUTPUT.truths)}
    batch = np.zeros((2, 1, 1, 1), np.float32)
    seen = evaluate_texts(Fake(), [batch], [0, 1], OUTPUT, known)
    assert (seen.top1, seen.classes) == (0.5, (0, 3))
    assert seen.figures[1].value == pytest.approx(1 / 4)
    assert known["b"] == 3


def test_without_a_blank_it_is_no_reader() -> None:
    with pytest.raises(AssertionError):
        texts_of(steps("ab"), replace(OUTPUT, blank=None))
