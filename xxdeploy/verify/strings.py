"""Texts of a candidate against those of its reference, and against the true ones: whole texts, edit distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.results import Accuracy, Figure, ModelOutput, OnProgress, Runner
from xxdeploy.runtime.answers import reading_from
from xxdeploy.verify.outputs import run_batches
from xxdeploy.verify.pictures import ends_of
from xxdeploy.verify.statistics import bootstrap_interval, wilson_interval


def texts_of(rows: NDArray[np.float32], output: ModelOutput) -> list[str]:
    """Return the text of each row, (n, steps * classes), as the device reads it."""
    assert output.blank is not None  # sequences have one
    return [reading_from(steps, output.names, output.blank).text for steps in rows.reshape(-1, *output.shape)]


def edit_distance(one: str, other: str) -> int:
    """Return the fewest characters to insert, delete or replace that make ``one`` of ``other`` (Levenshtein 1966)."""
    above = list(range(len(other) + 1))
    for row, left in enumerate(one, start=1):
        line = [row]
        for column, right in enumerate(other, start=1):
            line.append(min(above[column] + 1, line[-1] + 1, above[column - 1] + (left != right)))
        above = line
    return above[-1]


def character_errors(read: Sequence[str], true: Sequence[str]) -> float:
    """Return the character error rate: the edit distances of all texts over the number of true characters."""
    return sum(map(edit_distance, read, true)) / max(1, sum(map(len, true)))


class TextTally:
    """Counts the texts that a candidate reads otherwise than its reference; satisfies ``tallies.Tally``.

    ``labels`` are indices into ``output.truths``, one for each picture, or None.
    """

    def __init__(self, output: ModelOutput, labels: Sequence[int] | None) -> None:
        self._output = output
        self._truths = None if labels is None else [output.truths[label] for label in labels]
        self._before: list[str] = []
        self._after: list[str] = []

    def add(self, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> None:
        """Count a batch of rows, (n, values) each."""
        self._before += texts_of(reference, self._output)
        self._after += texts_of(candidate, self._output)

    @property
    def agreeing(self) -> int:
        """Return the number of pictures with the same text."""
        return sum(before == after for before, after in zip(self._before, self._after, strict=True))

    @property
    def changes(self) -> tuple[int, int, int] | None:
        """Return the pictures that the reference reads right, those gained and those lost; None without labels."""
        if self._truths is None:
            return None
        read = list(zip(self._before, self._after, self._truths, strict=True))
        right = sum(before == truth for before, _, truth in read)
        gained = sum(before != truth == after for before, after, truth in read)
        lost = sum(before == truth != after for before, after, truth in read)
        return right, gained, lost

    def figures(self) -> tuple[Figure, ...]:
        """Return the share of same texts, and of changed characters; with labels those that are right and wrong."""
        count, same = len(self._before), self.agreeing
        distances = np.array([edit_distance(*pair) for pair in zip(self._after, self._before, strict=True)], np.float64)
        lengths = np.array([max(1, len(text)) for text in self._before], np.float64)

        def rate(weights: NDArray[np.float64]) -> float:
            return float((weights @ distances) / (weights @ lengths))

        kept = Figure("same_texts", same / count, ends_of(wilson_interval(same, count)))
        if self._truths is not None:
            return kept, *figures_of(self._after, self._truths)
        return kept, Figure("changed_characters", rate(np.ones(count)), ends_of(bootstrap_interval(distances, rate)))

    @property
    def loss(self) -> None:
        """Return None: the divergence of the steps tells two candidates apart better than whole texts do."""
        return


def figures_of(read: Sequence[str], true: Sequence[str]) -> tuple[Figure, ...]:
    """Return the share of texts that are right, and the character error rate."""
    right = sum(one == other for one, other in zip(read, true, strict=True))
    return Figure("right_texts", right / len(read)), Figure("wrong_characters", character_errors(read, true))


def evaluate_texts(
    runner: Runner,
    batches: Iterable[NDArray[Any]],
    labels: Sequence[int] | None,
    output: ModelOutput,
    known: dict[str, int],
    *,
    on_progress: OnProgress | None = None,
) -> Accuracy:
    """Run a reader of texts over images, and count; ``labels`` are indices into ``output.truths``, or None.

    ``top1`` of the result is the share of whole texts that are right, and its classes are numbers of texts: ``known``
    maps each text to its number, and is extended. Errors as ``evaluate``.
    """
    read: list[str] = []
    purpose = f"evaluate {runner.name}"
    for _, rows in run_batches(
        runner, batches, purpose, "accuracy", on_progress, None if labels is None else len(labels)
    ):
        read += texts_of(rows, output)
    figures = () if labels is None else figures_of(read, [output.truths[label] for label in labels])
    numbers = tuple(known.setdefault(text, len(known)) for text in read)
    return Accuracy(runner.name, figures[0].value if figures else None, None, numbers, figures)
