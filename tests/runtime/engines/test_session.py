"""The checks that all engines share, on an engine of ten lines; and fakes that know less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xxdeploy.errors import EngineError, UsageError
from xxdeploy.runtime.engines.session import (
    MAX_THREADS,
    ClosedSession,
    EngineSession,
    TensorInfo,
    batch_for,
    check_threads,
    reason,
    session_from,
)
from xxdeploy.runtime.image.preprocess import Preprocess

IMAGE = TensorInfo("image", "float32", (None, 2, 2, 3))
PICTURE = TensorInfo("image", "uint8", (None, 2, 2, 3))
SCORES = TensorInfo("scores", "float32", (None, 4))
OTHER = TensorInfo("other", "float32", (None, 7))
BEST = TensorInfo("scores", "float32", (None, 2)), TensorInfo("scores_classes", "int64", (None, 2))
NOTES = {"xxdeploy.pixels": '{"step": 0.5, "centre": 128}', "xxdeploy.top_k": '{"classes": 4}'}
BATCH = np.ones((3, 2, 2, 3), np.float32)


class Small(EngineSession):
    """Returns a fixed answer for each output, and remembers its batches."""

    def __init__(self, *tensors: TensorInfo, answers: tuple[NDArray[Any], ...] = (), notes: bool = False) -> None:
        self.answers, self.batches = answers, list[NDArray[Any]]()
        super().__init__("small", tensors[:1], tensors[1:], NOTES.get if notes else lambda _: None)

    def _infer(self, feeds: Sequence[NDArray[Any]], count: int) -> list[NDArray[Any]]:
        self.batches += feeds
        return [self.answers[index] for index in range(count)]

    def _release(self) -> None:
        self.answers = ()


def test_one_output() -> None:
    answer = np.zeros((3, 4), np.float32)
    session = Small(IMAGE, SCORES, answers=(answer,))
    assert (session.input_name, session.output_name, session.output_names) == ("image", "scores", ("scores",))
    assert (session.takes_pixels, session.top_k) == (False, None)
    assert session.run(BATCH) is answer
    assert list(session.run_all(BATCH)) == ["scores"]


def test_several_outputs() -> None:
    answers = np.zeros((3, 4), np.float32), np.ones((3, 7), np.float32)
    session = Small(IMAGE, SCORES, OTHER, answers=answers)
    assert session.run(BATCH) is answers[0]
    assert {name: value.shape for name, value in session.run_all(BATCH).items()} == {"scores": (3, 4), "other": (3, 7)}


def test_pixels() -> None:
    session = Small(PICTURE, SCORES, answers=(np.zeros((3, 4), np.float32),), notes=True)
    assert session.takes_pixels
    session.run(np.full((3, 2, 2, 3), 7, np.uint8))
    session.run(np.full((3, 2, 2, 3), 2, np.float32))  # a scaled batch becomes bytes again: 2 / 0.5 + 128
    assert [(str(batch.dtype), int(batch.max())) for batch in session.batches] == [("uint8", 7), ("uint8", 132)]


def test_the_best_classes_are_spread_over_all() -> None:
    answers = np.array([[0.6, 0.2]], np.float32), np.array([[3, 1]], np.int64)
    session = Small(IMAGE, *BEST, answers=answers, notes=True)
    assert (session.top_k, session.output_names) == (2, ("scores",))
    np.testing.assert_allclose(session.run(BATCH[:1]), [[0.1, 0.2, 0.1, 0.6]], atol=1e-6)
    assert list(session.run_all(BATCH[:1])) == ["scores"]


@pytest.mark.parametrize(
    ("tensors", "notes"),
    [
        ((IMAGE,), False),
        ((PICTURE, SCORES), False),  # without a grid nobody knows what a pixel means
        ((TensorInfo("image", "float16", (None, 2)), SCORES), False),
        ((IMAGE, TensorInfo("scores", "int64", (None,))), False),
        ((IMAGE, *BEST), False),
        ((IMAGE, TensorInfo("scores", "float32", (None, None)), BEST[1]), True),
        ((IMAGE, SCORES, *BEST), True),
    ],
)
def test_signatures_that_are_refused(tensors: tuple[TensorInfo, ...], notes: bool) -> None:
    with pytest.raises(EngineError, match="the model of small has the inputs") as caught:
        Small(*tensors, notes=notes)
    assert caught.value.code == "engine-signature"


@pytest.mark.parametrize(
    "batch",
    [
        BATCH.astype(np.float64),
        BATCH[0],
        BATCH[:0],
        BATCH[:, 1:],
        BATCH[..., None],
        np.float32(3),
        None,
        [[1.0]],
    ],
)
def test_batches_that_are_refused(batch: Any) -> None:
    session = Small(IMAGE, SCORES)
    with pytest.raises(EngineError, match=r"small failed on a batch .*it takes \(n, 2, 2, 3\) float32") as caught:
        session.run(batch)
    assert (caught.value.code, caught.value.hint) == ("engine-run", EngineSession.remedy)
    assert not session.batches


def test_free_sides_take_any_size() -> None:
    session = Small(TensorInfo("x", "float32", (None, None, 3)), SCORES, answers=(np.zeros((1, 4), np.float32),))
    session.run(np.zeros((1, 9, 3), np.float32))
    with pytest.raises(EngineError, match=r"\(n, any, 3\)"):
        session.run(np.zeros((1, 9, 4), np.float32))


def test_what_an_engine_raises_is_one_error() -> None:
    with pytest.raises(EngineError, match="tuple index out of range") as caught:
        Small(IMAGE, SCORES).run(BATCH)
    assert caught.value.code == "engine-run"


def test_a_closed_session_says_so() -> None:
    session = Small(IMAGE, SCORES, answers=(np.zeros((3, 4), np.float32),))
    session.close()
    session.close()
    for closed in (session, ClosedSession("small")):
        for run in (closed.run, closed.run_all):
            with pytest.raises(UsageError, match="small is closed") as caught:
                run(BATCH)
            assert caught.value.code == "closed"


def test_an_object_with_two_members_is_enough() -> None:
    class Fake:
        name = "fake"

        def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
            return np.zeros((len(batch), 4), np.float32)

    class OnPixels(Fake):
        takes_pixels = True

    session = session_from(Fake())
    assert (session.name, session.takes_pixels, session.top_k, session.output_names) == ("fake", False, None, ())
    assert session.run(BATCH).shape == (3, 4)
    assert list(session.run_all(BATCH)) == [""]
    session.close()
    assert session_from(session) is session
    pictures = np.full((1, 2, 2, 3), 255, np.uint8)
    preprocess = Preprocess(2, 2)
    assert batch_for(session_from(OnPixels()), preprocess, pictures) is pictures
    assert batch_for(session, preprocess, pictures).dtype == np.float32


@pytest.mark.parametrize("threads", [0, -1, MAX_THREADS + 1])
def test_threads_out_of_range(threads: int) -> None:
    with pytest.raises(UsageError) as caught:
        check_threads(threads)
    assert caught.value.code == "threads-invalid"
    check_threads(None)
    check_threads(MAX_THREADS)


def test_the_line_that_says_something() -> None:
    assert reason(RuntimeError("Exception from src/core.cpp:3:\nException from b\n  too old \nmore")) == "too old"
    assert reason(RuntimeError()) == "RuntimeError"
