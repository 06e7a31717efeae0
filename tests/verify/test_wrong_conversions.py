"""The limit of FP32 parity finds wrong conversions. ``scripts/mutate_conversions.py`` tries more, on more networks."""

from __future__ import annotations

from typing import Any

import pytest
from wrong_conversions import NETWORKS, Judge, mutants


@pytest.fixture(scope="module", params=["linear classifier", "denoiser"])
def judged(request: pytest.FixtureRequest) -> tuple[Any, Judge]:
    build, classes = NETWORKS[request.param]
    model = build()
    return model, Judge(model, classes, 8)


def test_each_mistake_that_an_absolute_limit_finds_is_found(judged: tuple[Any, Judge]) -> None:
    model, judge = judged
    wrong = {mistake: graph for mistake, graph in mutants(model, judge.right, most=2) if judge.is_wrong(graph)}
    verdicts = {mistake: judge.judge(graph) for mistake, graph in wrong.items()}
    assert [mistake for mistake, (old, new) in verdicts.items() if old and not new] == []
    assert sum(new for _, new in verdicts.values()) > 10


def test_the_absolute_limit_refuses_right_conversions(judged: tuple[Any, Judge]) -> None:
    _, judge = judged
    assert judge.judge(judge.right) == (True, False)
