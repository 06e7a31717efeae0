from __future__ import annotations

import pytest

from xxdeploy.figures import percent, short_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [(percent(0.795), "79.5"), (percent(None), "-"), (short_number(0.00123), "0.001"), (short_number(None), "-")],
)
def test_figures(text: str, expected: str) -> None:
    assert text == expected
