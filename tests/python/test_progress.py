"""A bar in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from xxdeploy.python.progress import NotebookProgress, PlainProgress, progress_view
from xxdeploy.results import Progress

REPORTS = (
    Progress("load", 0, 1, (1, 2)),
    Progress("load", 1, 1, (1, 2)),
    Progress("quantize", 0, 1, (2, 2)),
    Progress("calibrate", 3, 10),
    Progress("calibrate", 10, 10),
)


class Screen:
    """A notebook's ``display``: keeps what it shows, and what each update makes of it."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def __call__(self, shown: Any, *, display_id: bool) -> Screen:
        assert display_id
        self.shown.append(shown)
        return self

    def update(self, shown: Any) -> None:
        self.shown.append(shown)


def test_a_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress() as view:
        for report in REPORTS:
            view(report)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "[1/2] load (0.0 s)\n"


def test_lines_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    PlainProgress()(REPORTS[1])


def test_a_bar_in_a_notebook() -> None:
    screen = Screen()
    with NotebookProgress(screen) as view:
        for report in REPORTS:
            view(report)
        view(Progress("<b>", 0, 1, (2, 2)))
        view(Progress("<b>", 1, 1, (2, 2)))
    bars = [shown._repr_html_() for shown in screen.shown]
    assert '<progress value="0.500" max="1">' in bars[1] or '<progress value="0.000"' in bars[1]
    assert any("[2/2] &lt;b&gt;" in bar and 'value="1.000"' in bar for bar in bars)
    assert "<progress" not in bars[-1]
    assert repr(screen.shown[-1]).startswith("2 steps in ")


def test_a_failed_export_says_where() -> None:
    screen = Screen()

    def fail(view: NotebookProgress) -> None:
        with view:
            view(REPORTS[2])
            raise KeyError

    with pytest.raises(KeyError):
        fail(NotebookProgress(screen))
    assert repr(screen.shown[-1]).startswith("failed in [2/2] quantize after ")


@pytest.mark.parametrize(
    ("shell", "kind"),
    [
        (None, PlainProgress),
        (types.SimpleNamespace(), PlainProgress),  # IPython in a terminal
        (types.SimpleNamespace(kernel=object()), NotebookProgress),
    ],
)
def test_the_view_fits_the_process(shell: Any, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display.display = Screen()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert type(progress_view()) is kind
