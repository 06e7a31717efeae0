"""The limit of FP32 parity finds wrong conversions. ``scripts/mutate_conversions.py`` tries more, on more networks."""

from __future__ import annotations

import pytest
from wrong_conversions import NETWORKS, Judge, mutants


@pytest.mark.parametrize("name", ["linear classifier", "denoiser"])
def test_each_mistake_that_an_absolute_limit_finds_is_found(name: str) -> None:
    build, classes = NETWORKS[name]
    model = build()
    judge = Judge(model, classes, 8)
    assert not judge.judge(judge.right)[1]
    wrong = {mistake: graph for mistake, graph in mutants(model, judge.right, most=2) if judge.is_wrong(graph)}
    verdicts = {mistake: judge.judge(graph) for mistake, graph in wrong.items()}
    assert [mistake for mistake, (old, new) in verdicts.items() if old and not new] == []
    assert sum(new for _, new in verdicts.values()) > 10


@pytest.mark.parametrize("name", ["linear classifier", "denoiser"])
def test_the_absolute_limit_refuses_right_conversions(name: str) -> None:
    build, classes = NETWORKS[name]
    judge = Judge(build(), classes, 8)
    assert judge.judge(judge.right) == (True, False)
