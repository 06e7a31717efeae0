from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from xxdeploy.report import format as write


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
