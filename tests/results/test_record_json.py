from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from xxdeploy.errors import BundleError
from xxdeploy.results.record_json import json_from_record, record_from_json


@dataclass(frozen=True)
class Inner:
    share: float


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()
    pair: tuple[float, float] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    flag: bool = False


def test_a_record_survives_the_round_trip_without_its_defaults() -> None:
    record = Outer("a", (Inner(0.5),), (1.0, 2.0), flag=True)
    document = json_from_record(record)
    assert document == {"name": "a", "inner": [{"share": 0.5}], "pair": [1.0, 2.0], "flag": True}
    assert record_from_json(Outer, document, "evidence") == record
    assert json_from_record(Outer("b")) == {"name": "b", "flag": False}


def test_keys_of_later_versions_are_skipped() -> None:
    assert record_from_json(Outer, {"name": "a", "later": [1]}, "evidence") == Outer("a")


@pytest.mark.parametrize(
    "document",
    [{}, {"name": 1}, {"name": "a", "pair": [1.0]}, {"name": "a", "inner": [{"share": "x"}]}, {"name": "a", "flag": 1}],
)
def test_a_wrong_value_is_named(document: dict[str, object]) -> None:
    with pytest.raises(BundleError) as caught:
        record_from_json(Outer, document, "evidence")  # type: ignore[arg-type]
    assert caught.value.code == "manifest-value"
    assert "evidence" in caught.value.message
