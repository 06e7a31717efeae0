"""Positions of plots, in percent."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from xxdeploy.report.draw import bars, data_uri, interval, strips


def test_the_largest_bar_fills_the_row() -> None:
    assert [each["width"] for each in bars([("a", 2.0, ""), ("b", 1.0, ""), ("c", 0.0, "")])] == [100.0, 50.0, 0.0]
    assert bars([("a", 0.0, "")])[0]["width"] == 0.0
    assert bars([]) == []


def test_an_interval_widens_its_scale() -> None:
    assert interval([0.95, 0.99], 0.97, 0.9, 1.0) == {"left": 50, "right": 90, "middle": 70, "low": 0.9, "high": 1.0}
    wide = interval([0.5, 1.0], 0.8, 0.9, 1.0)
    assert (wide["left"], wide["right"], wide["low"]) == (0.0, 100.0, 0.5)


def test_dots_lie_on_one_axis() -> None:
    found = strips([("slow", [10.0, 20.0, 1000.0]), ("fast", [1.0] * 200), ("one", [3.0]), ("none", [])])
    assert [row["name"] for row in found["rows"]] == ["slow", "fast"]
    slow, fast = found["rows"]
    assert slow["p50"] == 20.0
    assert len(fast["dots"]) <= 60
    assert 0 < fast["dots"][0] < slow["dots"][0] < slow["dots"][-1] < 100
    assert slow["at"] - fast["at"] == pytest.approx(100 * 1.30103 / 3.06, abs=0.1)
    assert [tick["text"] for tick in found["ticks"]] == ["1", "10", "100", "1000"]
    assert strips([])["rows"] == []


def test_a_picture_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert data_uri(tmp_path / "gone.png", 64) == ""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert data_uri(tmp_path / "broken.png", 64) == ""
    Image.effect_noise((2000, 2000), 90).save(tmp_path / "large.png")
    assert len(data_uri(tmp_path / "large.png", 64)) < 6000
