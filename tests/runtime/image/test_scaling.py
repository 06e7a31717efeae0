"""Scaling of one's own: the arithmetic, the manifest, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.image.scaling import Scaling

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
OWN = Scaling(1 / 255, (0.5, 0.4, 0.3), (0.25, 0.2, 0.1), "bgr")


def test_it_is_three_operations_in_float32() -> None:
    found = Preprocess(4, 5, mode="custom", scaling=OWN).normalize(IMAGES)
    expected = IMAGES[..., ::-1].astype(np.float32) * np.float32(1 / 255)
    expected = (expected - np.float32(1) * np.array(OWN.mean, np.float32)) / np.array(OWN.std, np.float32)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


def test_that_of_torch_can_be_written_with_it() -> None:
    torch = Scaling(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = Preprocess(4, 5, mode="custom", scaling=torch).normalize(IMAGES)
    np.testing.assert_allclose(found, Preprocess(4, 5, mode="torch").normalize(IMAGES), atol=1e-6)


def test_json_keeps_every_bit_and_old_bundles_stay_as_they_are() -> None:
    own = Preprocess(4, 5, mode="custom", scaling=OWN)
    assert Preprocess.from_json(json.loads(json.dumps(own.to_json()))) == own
    assert set(own.to_json()) == {*Preprocess(4, 5).to_json(), "scaling"}
    assert "scaling" not in Preprocess(4, 5).to_json()
    gray = Preprocess(4, 5, 1, "custom", scaling=Scaling(1.0, (0.0,), (255.0,)))
    written = json.loads(json.dumps(gray.to_json()).replace("1.0", "1").replace("0.0", "0"))  # as other tools write
    assert Preprocess.from_json(written) == gray


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": "1"},
        {"scale": True},
        {"scale": 10**400},
        {"mean": [0.5]},
        {"mean": 0.5},
        {"mean": [0.5, 0.5, None]},
        {"mean": [1e9, 0.0, 0.0]},
        {"std": [0.1, 0.1, 0.0]},
        {"std": [0.1, -0.1, 0.1]},
        {"std": [0.1, 0.1, 0.1, 0.1], "mean": [0.1, 0.1, 0.1, 0.1]},
        {"mean": [], "std": []},
        {"order": "rbg"},
        {"order": None},
        {"extra": 1},
    ],
    ids=str,
)
def test_it_is_read_strictly(change: dict[str, Any]) -> None:
    good = Preprocess(4, 5, mode="custom", scaling=OWN).to_json()
    with pytest.raises(UsageError) as caught:
        Preprocess.from_json({**good, "scaling": {**OWN.to_json(), **change}})
    assert caught.value.code == "preprocess-invalid"


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "custom"},
        {"mode": "tf", "scaling": OWN},
        {"mode": "custom", "channels": 1, "scaling": OWN},
        {"mode": "custom", "channels": 3, "scaling": Scaling(1.0, (0.0,), (1.0,))},
    ],
    ids=str,
)
def test_scaling_belongs_to_its_mode_and_channels(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess(4, 5, **fields)
    assert caught.value.code == "preprocess-invalid"


@pytest.mark.parametrize("value", [None, [], {"scale": 1.0}, "tf"])
def test_json_of_another_shape(value: object) -> None:
    good = Preprocess(4, 5, mode="custom", scaling=OWN).to_json()
    for document in ({**good, "scaling": value}, {key: item for key, item in good.items() if key != "scaling"}):
        with pytest.raises(UsageError):
            Preprocess.from_json(document)
    with pytest.raises(UsageError):
        Preprocess.from_json({**Preprocess(4, 5).to_json(), "scaling": OWN.to_json()})
