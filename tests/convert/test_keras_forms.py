"""Operations in elementary operators. ``scripts/sweep_keras.py`` converts every operation of Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from keras_surface import OPERATIONS, model_of
from model_answers import conversion_error
from random_models import give_weights

FORMS = (
    *("argmax", "argmin", "celu", "cumprod", "diagonal", "erfc", "expm1", "log1p", "logaddexp", "logaddexp2"),
    *("image.rgb_to_hsv", "image.hsv_to_rgb"),
)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_gives_the_answer_of_keras(name: str, tmp_path: Path) -> None:
    model = model_of(OPERATIONS[name])
    give_weights(model, np.random.default_rng(1))
    error = conversion_error(model, tmp_path, 1)
    assert error is not None
    assert error < 1e-5
