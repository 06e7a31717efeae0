"""Build a network of the catalog as a ``keras.Model`` with its weights."""

from __future__ import annotations

import collections
import contextlib
import importlib
import os
import random
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.catalog.initialize import drawn_by_numpy
from xxdeploy.convert.catalog.weights import check_finite, load_weights
from xxdeploy.convert.keras_loader import load_keras, replaced
from xxdeploy.errors import ConversionError, UsageError, XXDeployError
from xxdeploy.models.catalog import BuildOptions, ModelSpec
from xxdeploy.models.options import check_options, image_size, output_classes
from xxdeploy.models.samples import sample_for, sample_options

if TYPE_CHECKING:
    import keras

_DEFAULTS = BuildOptions()
_TIMEOUT = 30.0  # seconds without a byte, after which a download is given up


def build_model(spec: ModelSpec, *, weights: str = "imagenet", options: BuildOptions = _DEFAULTS) -> keras.Model:
    """Build a network of the catalog and load its weights.

    ``weights`` is ``imagenet``: from Keras' cache (``KERAS_HOME``), downloaded if absent; ``sample``: the weights
    shipped with xxdeploy; ``none``: random, determined by ``options.seed``; or a file (``.weights.h5``, ``.h5``).
    The options are checked before Keras is imported. The model maps ``(n, h, w, c)`` float32 to ``(n, classes)``
    float32 probabilities, or to features without the classifier. All weights are finite. Layer names do not depend on
    networks built before.

    ``UsageError``: those of :func:`~xxdeploy.models.options.check_options`; ``no-weights-file``;
    ``weights-unavailable``: not in the cache, and the download failed. ``ConversionError``: ``weights-mismatch``,
    ``damaged-weights``, ``non-finite-weights``; ``build-failed``: Keras refuses the options.
    ``MissingDependencyError``: TensorFlow is absent or unusable.
    """
    if weights == "sample":
        options = sample_options(spec, options)
    check_options(spec, options, weights=weights)
    if weights not in ("imagenet", "sample", "none") and not Path(weights).is_file():
        raise UsageError(
            f"there is no weights file {weights}",
            hint="--weights imagenet|sample|none or a file",
            code="no-weights-file",
        )
    load_keras()
    model = _build(spec, options, weights)
    if weights not in ("imagenet", "none"):
        load_weights(model, sample_for(spec).weights if weights == "sample" else Path(weights), spec.title)
    check_finite(model, spec.title)
    return model


def _build(spec: ModelSpec, options: BuildOptions, weights: str) -> keras.Model:
    module, _, function = spec.builder.partition(":")
    builder = getattr(importlib.import_module(module), function)
    size = image_size(spec, options)
    arguments: dict[str, Any] = {
        **dict(spec.arguments),
        "weights": "imagenet" if weights == "imagenet" else None,
        "input_shape": (size, size, spec.channels),
        "include_top": options.include_top,
        "classes": output_classes(spec, options) or spec.classes,
        "pooling": options.pooling,
    }
    if options.alpha is not None:
        arguments["alpha"] = options.alpha
    fetched: list[str] = []
    try:
        start = drawn_by_numpy(options.seed if weights == "none" else None)
        with start, _seeded(options.seed), _fresh_names(), _careful_download(fetched), warnings.catch_warnings():
            # Without a classifier the weights of 224 pixels fit each size.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined", category=UserWarning)
            return builder(**arguments)
    except XXDeployError:
        raise
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        if fetched:  # the network was built, so its weights failed
            raise ConversionError(
                f"the weights {fetched[-1]} cannot be loaded: {reason}",
                hint="delete the file to download it again: the download may be incomplete",
                code="damaged-weights",
            ) from error
        raise ConversionError(
            f"Keras cannot build {spec.title}: {reason}", hint="try the default options", code="build-failed"
        ) from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed Python's generator, from which Keras seeds each layer, and restore the caller's state."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _fresh_names() -> Iterator[None]:
    """Count automatic layer names from zero, so a second build in a process has the same names."""
    from keras.src.backend.common import global_state

    key = "object_name_uids"
    counts = global_state.get_global_attribute(key)
    global_state.set_global_attribute(key, collections.defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute(key, counts)


@contextmanager
def _careful_download(fetched: list[str]) -> Iterator[None]:
    """Within this context Keras' ``get_file`` reads a read-only cache, prints on stderr, times out, and has our error.

    The path of each file is appended to ``fetched``. Keras itself ignores a read-only ``KERAS_HOME``, prints on stdout,
    waits without limit, and raises a bare ``Exception``.
    """
    from keras.src.utils import file_utils

    original: Callable[..., str] = file_utils.get_file

    def get_file(fname: str, origin: str, **rest: Any) -> str:
        home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
        cached = home / rest.get("cache_subdir", "datasets") / fname
        if cached.is_file() and not os.access(home, os.W_OK):
            fetched.append(str(cached))
            return str(cached)
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_TIMEOUT)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                fetched.append(original(fname, origin, cache_dir=str(home), **rest))
            return fetched[-1]
        except Exception as error:  # Keras raises exactly that
            raise UsageError(
                f"the weights {fname} are not in {home / 'models'}, and the download failed: {error}",
                hint="set KERAS_HOME to a folder with models/FILE, or use --weights sample, none (random) or FILE",
                code="weights-unavailable",
            ) from error
        finally:
            socket.setdefaulttimeout(timeout)

    with replaced(file_utils, "get_file", get_file):
        yield
