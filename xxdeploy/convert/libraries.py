"""Loads TensorFlow and Keras quietly, and only in a configuration in which results are right."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

from xxdeploy.errors import MissingDependencyError
from xxdeploy.optional import extra

_log = logging.getLogger(__name__)


def load_keras() -> ModuleType:
    """Import TensorFlow and Keras 3, once, without their talk on stderr, and return ``keras``.

    TensorFlow is kept on the CPU unless the caller imported it before: the reference outputs must be float32,
    where a GPU may compute in TF32.

    Raises
    ------
    MissingDependencyError
        ``missing-dependency``, ``broken-dependency``, or ``keras-settings`` when ``KERAS_BACKEND`` or ``keras.json``
        asks for another backend, channels first or another float type.
    """
    first = "tensorflow" not in sys.modules
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "keras" not in sys.modules or first:
        with quiet_stderr(), extra("export"):
            import tensorflow as tf

            if first:
                with suppress(RuntimeError):  # devices are initialized already, so somebody else has chosen
                    tf.config.set_visible_devices([], "GPU")
            tf.constant(0.0)  # the first operation talks about the devices, too
            import keras
    with extra("export"):
        import keras
    settings = (keras.config.backend(), keras.config.image_data_format(), keras.config.dtype_policy().name)
    if settings != ("tensorflow", "channels_last", "float32"):
        raise MissingDependencyError(
            f"Keras is set to {', '.join(settings)}; this step needs tensorflow, channels_last, float32",
            hint="unset KERAS_BACKEND, and look into keras.json (in KERAS_HOME, else ~/.keras)",
            code="keras-settings",
        )
    return keras  # type: ignore[no-any-return]


def load_tensorflow() -> ModuleType:
    """Import TensorFlow as :func:`load_keras` does, and return it."""
    load_keras()
    import tensorflow as tf

    return tf  # type: ignore[no-any-return]


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep what C++ code writes to file descriptor 2 off the terminal; it goes to the log (debug) instead.

    Python's ``sys.stderr`` is silenced with it. The descriptor is restored whatever happens.
    """
    with suppress(AttributeError, ValueError, OSError):  # stderr may be closed or None
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # there is no descriptor 2, so nothing to keep quiet
        yield
        return
    try:
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield
            finally:
                with suppress(AttributeError, ValueError, OSError):
                    sys.stderr.flush()
                os.dup2(saved, 2)
                sink.seek(0)
                for line in sink.read().decode(errors="replace").splitlines():
                    _log.debug("%s", line)
    finally:
        os.close(saved)
