"""What can be asked of an engine."""

from __future__ import annotations

import pytest

from xxdeploy.engine import Batch, Engine, EngineOptions, parse_batch, parse_gpus
from xxdeploy.errors import EngineError, UsageError


@pytest.mark.parametrize(
    ("text", "batch"),
    [("8", Batch(1, 8, 8)), ("4,8", Batch(4, 8, 8)), ("1,4,16", Batch(1, 4, 16)), ("1", Batch(1, 1, 1))],
)
def test_batches(text: str, batch: Batch) -> None:
    assert parse_batch(text) == batch


@pytest.mark.parametrize("text", ["", "0", "4,2", "1,8,4", "1,2,3,4", "1, 2", "-1", "1025", "٣", "x", "1,,2", "99999"])
def test_batches_that_make_no_profile(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batch(text)
    assert caught.value.code == "bad-batch"


@pytest.mark.parametrize("text", ["sm86,sm89", "86,89", "8.6, 8.9", "SM86,sm89,"])
def test_cards(text: str) -> None:
    assert EngineOptions(gpus=parse_gpus(text)).gpus == ("sm86", "sm89")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"gpus": ("sm90",)}, "unknown-gpu"),
        ({"gpus": ("sm86", "sm86")}, "unknown-gpu"),
        ({"gpus": ("sm86",), "target": "tensorrt"}, "gpu-without-rtx"),
        ({"any_gpu": True}, "gpu-without-rtx"),
        ({"target": "cuda"}, "unknown-target"),
        ({"workspace": 1000}, "bad-workspace"),
    ],
)
def test_what_is_refused(options: dict[str, object], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        EngineOptions(**options)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_an_engine_holds_something() -> None:
    with pytest.raises(EngineError):
        Engine(b"", EngineOptions(), "1.0", "0" * 64, {})
    engine = Engine(b"plan", EngineOptions(), "1.0", "0" * 64, {})
    assert engine.size == 4
    assert len(engine.digest) == 64
