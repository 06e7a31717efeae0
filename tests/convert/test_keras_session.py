"""The user's settings of Keras return, and settings that cannot be had are named errors."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from xxdeploy.convert.keras_session import settings_of_export
from xxdeploy.errors import UsageError


def test_the_users_settings_return_after_an_error() -> None:
    import keras

    config = keras.config
    before = config.floatx(), config.image_data_format(), config.dtype_policy()
    try:
        config.set_dtype_policy("mixed_bfloat16")
        config.set_image_data_format("channels_first")
        random.seed(3)
        np.random.seed(3)
        expected = random.Random(3).random(), np.random.RandomState(3).rand()
        with pytest.raises(KeyError):
            _fail_inside()
        assert (config.dtype_policy().name, config.image_data_format()) == ("mixed_bfloat16", "channels_first")
        assert (random.random(), np.random.rand()) == expected
    finally:
        config.set_floatx(before[0])
        config.set_image_data_format(before[1])
        config.set_dtype_policy(before[2])


def _fail_inside() -> None:
    import keras

    with settings_of_export():
        assert keras.config.dtype_policy().name == keras.config.floatx() == "float32"
        assert keras.config.image_data_format() == "channels_last"
        random.random()
        np.random.rand()
        raise KeyError


def test_inside_of_a_function_of_tensorflow() -> None:
    import tensorflow as tf

    def inside() -> None:
        with settings_of_export():
            pass

    with pytest.raises(UsageError, match="does not run eagerly") as caught:
        tf.function(inside, autograph=False)()
    assert caught.value.code == "not-eager"


def test_another_backend_is_a_named_error() -> None:
    """Before TensorFlow is imported, and whether or not Keras is imported already."""
    code = (
        "import sys, types\n"
        "if KERAS:\n    sys.modules['keras'] = keras = types.ModuleType('keras')\n"
        "    keras.config = types.SimpleNamespace(backend=lambda: 'jax')\n"
        "from xxdeploy.convert.keras_session import settings_of_export\n"
        "from xxdeploy.errors import XXDeployError\n"
        "try:\n    settings_of_export().__enter__()\nexcept XXDeployError as error:\n"
        "    print(error.code, '|', error.message, '|', error.hint, '|', 'tensorflow' in sys.modules)\n"
    )
    for known, variables in (("True", {}), ("False", {"KERAS_BACKEND": "jax"})):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("KERAS:", f"{known}:")], env={"PATH": "", **variables},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        name, message, hint, imported = done.stdout.strip().split(" | ")
        assert name == "keras-settings"
        assert message.startswith("Keras is configured for jax; xxdeploy needs tensorflow")
        assert "model.save('NAME.keras')" in hint
        assert imported == "False"
