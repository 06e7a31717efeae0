"""Positions of plots, in percent."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError
from PIL import Image

from xxdeploy.report import draw as write
from xxdeploy.report.draw import bars, data_uri, interval, strips


def test_the_largest_bar_fills_the_row() -> None:
    assert [bar["width"] for bar in bars([("a", 2.0, ""), ("b", 1.0, ""), ("c", 0.0, "")])] == [100.0, 50.0, 0.0]
    assert bars([("a", 0.0, "")])[0]["width"] == 0.0
    assert bars([]) == []


def test_an_interval_widens_its_scale() -> None:
    assert interval([0.95, 0.99], 0.97, 0.9, 1.0) == {"left": 50, "right": 90, "middle": 70, "low": 0.9, "high": 1.0}
    wide = interval([0.5, 1.0], 0.8, 0.9, 1.0)
    assert (wide["left"], wide["right"], wide["low"]) == (0.0, 100.0, 0.5)


def test_dots_lie_on_one_axis() -> None:
    drawn = strips([("slow", [10.0, 20.0, 1000.0]), ("fast", [1.0] * 200), ("one", [3.0]), ("none", [])])
    assert [row["name"] for row in drawn["rows"]] == ["slow", "fast"]
    slow, fast = drawn["rows"]
    assert slow["p50"] == 20.0
    assert len(fast["dots"]) <= 60
    assert 0 < fast["dots"][0] < slow["dots"][0] < slow["dots"][-1] < 100
    assert slow["at"] - fast["at"] == pytest.approx(100 * 1.30103 / 3.06, abs=0.1)
    assert [tick["text"] for tick in drawn["ticks"]] == ["1", "10", "100", "1000"]
    assert strips([])["rows"] == []


def test_a_picture_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert data_uri(tmp_path / "gone.png", 64) == ""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert data_uri(tmp_path / "broken.png", 64) == ""
    Image.effect_noise((2000, 2000), 90).save(tmp_path / "large.png")
    assert len(data_uri(tmp_path / "large.png", 64)) < 6000


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (write.percent(0.98523), "98.5"), (write.percent(-0.00001), "0.0"), (write.points(0.0059), "+0.6"),
        (write.points(-0.0), "+0.0"), (write.megabytes(3_700_000), "3.7 MB"), (write.milliseconds(4.123), "4.12 ms"),
        (write.milliseconds(41.23), "41.2 ms"), (write.milliseconds(412.3), "412 ms"),
        (write.small(3.14e-7), "3.1e-07"),
        (write.decibel(25.94), "25.9 dB"), (write.ratio(0.5), "0.50x"), (write.seconds(8.21), "8.2 s"),
        (write.seconds(128.2), "128 s"),
    ],
)  # fmt: skip
def test_numbers(written: str, expected: str) -> None:
    assert written == expected


def test_a_dash_stands_for_no_measurement() -> None:
    functions = (
        write.percent, write.points, write.megabytes, write.milliseconds, write.small, write.decibel, write.ratio,
        write.seconds,
    )  # fmt: skip
    assert {function(None) for function in functions} == {"-"}


def test_text_is_escaped_and_unknown_names_fail() -> None:
    made = write.environment()
    assert made.from_string("{{ name }} {{ 0.5|percent }}").render(name="<b>") == "&lt;b&gt; 50.0"
    with pytest.raises(UndefinedError):
        made.from_string("{{ nme }}").render(name="")
