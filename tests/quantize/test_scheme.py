from __future__ import annotations

import pytest

from xxdeploy.errors import UsageError
from xxdeploy.quantize import Scheme, scheme


@pytest.mark.parametrize("name", ["static-w8c-a8", "static-w7c-a8", "static-w8c-a8i", "static-w8c-a8s"])
def test_names_survive_the_round_trip(name: str) -> None:
    assert scheme(name).name == name


def test_names_decode() -> None:
    assert scheme("static-w8c-a8") == Scheme(weight_bits=8, signed=False, symmetric=False)
    assert scheme("static-w7c-a8") == Scheme(weight_bits=7)
    assert scheme("static-w8c-a8i") == Scheme(signed=True)
    assert scheme("static-w8c-a8s") == Scheme(signed=True, symmetric=True)


def test_seven_bit_weights_fit_sixteen_bit_sums() -> None:
    assert 2 * 255 * scheme("static-w7c-a8").weight_max <= 2**15 - 1
    assert 2 * 255 * scheme("static-w8c-a8").weight_max > 2**15 - 1


@pytest.mark.parametrize("name", ["", "int8", "static-w4c-a8", "static-w8t-a8", "static-w8c-a8x", "static-w8c-a8 "])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="unknown quantization scheme") as caught:
        scheme(name)
    assert caught.value.code == "unknown-scheme"
    assert "static-w8c-a8" in caught.value.hint


def test_dynamic_quantization_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        scheme("dynamic-w8")
    assert caught.value.code == "dynamic-quantization"


@pytest.mark.parametrize("fields", [{"weight_bits": 4}, {"symmetric": True}])
def test_impossible_schemes_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"weight_bits|signed"):
        Scheme(**fields)  # type: ignore[arg-type]
