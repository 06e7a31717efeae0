"""Load TensorFlow and Keras without their output, and only in a configuration with correct results."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

from xxdeploy.errors import MissingDependencyError
from xxdeploy.optional import extra

_log = logging.getLogger(__name__)


def load_keras() -> ModuleType:
    """Import TensorFlow and Keras 3, once, without their output on stderr, and return ``keras``.

    TensorFlow stays on the CPU unless the caller imported it before: the reference outputs must be float32, and a GPU
    may compute in TF32. ``MissingDependencyError``: ``missing-dependency``, ``broken-dependency``; ``keras-settings``:
    ``KERAS_BACKEND`` or ``keras.json`` asks for another backend, channels first or another float type.
    """
    check_backend()
    first = "tensorflow" not in sys.modules
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if "keras" not in sys.modules or first:
        with quiet_stderr(), extra("export"):
            import tensorflow as tf

            if first:
                with suppress(RuntimeError):  # the devices are initialized, so the caller has chosen
                    tf.config.set_visible_devices([], "GPU")
            tf.constant(0.0)  # the first operation prints about the devices, too
            import keras
    with extra("export"):
        import keras
    if _settings(keras) != ("tensorflow", "channels_last", "float32"):
        raise _other_settings(*_settings(keras))
    return keras  # type: ignore[no-any-return]


def _settings(keras: ModuleType) -> tuple[str, str, str]:
    return keras.config.backend(), keras.config.image_data_format(), keras.config.dtype_policy().name


def check_backend() -> None:
    """Raise ``keras-settings`` if Keras runs, or would run, on another backend than TensorFlow. Imports nothing."""
    library = sys.modules.get("keras")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if library is not None and hasattr(library, "config"):
        backend = library.config.backend()
    if backend != "tensorflow":
        raise _other_settings(backend)


def _other_settings(*settings: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"Keras is configured for {', '.join(settings)}; xxdeploy needs tensorflow, channels_last, float32",
        hint="unset KERAS_BACKEND, and correct keras.json in KERAS_HOME or ~/.keras; a program that needs another "
        "backend saves its model (model.save('NAME.keras')), and another process exports the file",
        code="keras-settings",
    )


def load_tensorflow() -> ModuleType:
    """Import TensorFlow as :func:`load_keras` does, and return it."""
    load_keras()
    import tensorflow as tf

    return tf  # type: ignore[no-any-return]


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Within this context the attribute ``name`` of ``owner`` is ``value``."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send output of C++ code to file descriptor 2, and of ``sys.stderr``, to the log (debug) within this context."""
    with suppress(AttributeError, ValueError, OSError):  # stderr may be closed or None
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # there is no descriptor 2
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
