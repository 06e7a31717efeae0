from __future__ import annotations

import pytest

from xxdeploy.errors import BundleError
from xxdeploy.results import CEILING_DB, LayerNoise, decibels, noise_from_json, noise_to_json


def test_decibels_end_on_both_sides() -> None:
    assert decibels(100.0, 1.0) == 20.0
    assert decibels(0.0, 0.0) is None
    assert decibels(1.0, 0.0) == CEILING_DB
    assert decibels(0.0, 1.0) == -CEILING_DB
    assert decibels(1e300, 1e-300) == CEILING_DB


def test_the_record_gives_the_same_values_back() -> None:
    layers = (LayerNoise("a/Conv", "Conv", 20.5, 21.0, 31.25, None, -200.0), LayerNoise("b", "Add", *[None] * 5))
    assert noise_from_json(noise_to_json(layers)) == layers


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "1", '{"layers": []}', '{"layers": [1]}', '{"layers": {"a": 1}}', "[" * 100_000,
        noise_to_json([LayerNoise("a", "Conv", *[1.0] * 5)]).replace("1.0", "NaN"),
        noise_to_json([LayerNoise("a", "Conv", *[1.0] * 5)]).replace("1.0", "true"),
        noise_to_json([LayerNoise("a", "Conv", *[1.0] * 5)]).replace("1.0", "1e9"),
        noise_to_json([LayerNoise("a", "Conv", *[1.0] * 5)]).replace('"a"', "7"),
        noise_to_json([LayerNoise("a", "Conv", *[1.0] * 5)]).replace('"a"', '"\\u001b[2J"'),
        noise_to_json([LayerNoise("a", "Conv", *[1.0] * 5)]).replace("weights_db", "weight"),
    ],
)  # fmt: skip
def test_a_damaged_record(text: str) -> None:
    with pytest.raises(BundleError) as caught:
        noise_from_json(text)
    assert caught.value.code == "damaged-sensitivity"
