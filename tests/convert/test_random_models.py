"""Random small models convert and give Keras' answers. ``scripts/fuzz_models.py`` runs hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_answers import conversion_error
from random_models import random_model

SEEDS = range(2000, 2030)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_model(seed: int, tmp_path: Path) -> None:
    error = conversion_error(random_model(seed), tmp_path, seed)
    assert error is None or error < 1e-3
