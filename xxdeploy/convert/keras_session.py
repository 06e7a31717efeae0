"""The settings that an export needs of Keras and TensorFlow, in a process that is the user's."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from xxdeploy.convert.keras_loader import check_backend, load_keras, quiet_stderr
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra


@contextmanager
def settings_of_export() -> Iterator[None]:
    """Within this context Keras computes in float32, channels last, on the CPU; the user's settings return at its end.

    A notebook may have set a global dtype policy, as for mixed precision, and its models may be on a GPU, which
    computes in TF32: the reference of an export is float32. Unlike ``load_keras`` alone, TensorFlow is imported
    with its GPUs, so that the program can go on to train on them. The random numbers of Python and NumPy continue as
    if the export had drawn none.

    Raises
    ------
    MissingDependencyError
        ``missing-dependency``, ``broken-dependency``; ``keras-settings``: Keras runs on another backend.
    UsageError
        ``not-eager``: the program has turned eager execution off, or calls from inside of a ``tf.function``.
    """
    check_backend()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with extra("export"):
        if {"tensorflow", "keras"} <= sys.modules.keys():
            import tensorflow as tf
        else:
            with quiet_stderr():
                import keras
                import tensorflow as tf
        import keras
    if not tf.executing_eagerly():
        raise UsageError(
            "TensorFlow does not run eagerly here",
            hint="call xxdeploy.export outside of tf.function, in a process that does not disable eager execution",
            code="not-eager",
        )
    check_backend()  # keras.json may name it
    config = keras.config
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.callback(config.set_dtype_policy, config.dtype_policy())
        stack.callback(config.set_floatx, config.floatx())
        stack.callback(config.set_image_data_format, config.image_data_format())
        config.set_floatx("float32")
        config.set_dtype_policy("float32")
        config.set_image_data_format("channels_last")
        if tf.config.get_visible_devices("GPU"):
            stack.enter_context(tf.device("/CPU:0"))
        load_keras()
        yield
