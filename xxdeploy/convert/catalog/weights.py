"""Load weights from a file into a built network, checked before and after."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.errors import ConversionError, UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)
_SAME = "the file must be of the same network and options: compare MODEL, --alpha, --classes and --no-top"


def load_weights(model: keras.Model, path: Path, title: str) -> None:
    """Load ``path`` into ``model``, in place.

    Reads both layouts of Keras, whatever the HDF5 file is called: that of Keras 3 (``.weights.h5``), and the older one
    by layer name, with or without the model around it (``.h5``). Optimizer state is ignored. ``title`` is the network's
    name in messages.

    ``UsageError``: ``no-weights-file``: absent or a folder; ``not-weights``: not HDF5, or HDF5 without Keras weights.
    ``ConversionError``: ``damaged-weights``: the file is truncated or unreadable; ``weights-mismatch``: it belongs to
    another network.
    """
    load_keras()
    with extra("export"):
        import h5py

    if not path.is_file():
        raise UsageError(
            f"there is no weights file {path}", hint="--weights imagenet|sample|none or a file", code="no-weights-file"
        )
    if not h5py.is_hdf5(path):
        raise UsageError(
            f"{path} is not an HDF5 file", hint="save it with model.save_weights('NAME.weights.h5')", code="not-weights"
        )
    try:
        with h5py.File(path, "r") as file:
            legacy, arrays, numbers = _contents(file, path)
    except (OSError, RuntimeError, KeyError) as error:
        raise _damaged(path, error) from error
    weights = [weight for weight in model.weights if "seed_generator" not in weight.path]
    expected = sum(int(np.prod(weight.shape)) for weight in weights)
    if (arrays, numbers) != (len(weights), expected):
        raise _mismatch(
            path,
            title,
            f"it has {numbers:,} numbers in {arrays} arrays, and the network has {expected:,} in {len(weights)}",
        )
    with (
        named_as_keras_expects(path, ".h5" if legacy else ".weights.h5") as named,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            model.load_weights(str(named))
        except OSError as error:
            raise _damaged(path, error) from error
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise _mismatch(path, title, str(error)) from error
    for warning in caught:
        # Keras only warns when it leaves a layer at its initial weights.
        if "kipping" in str(warning.message):
            raise _mismatch(path, title, str(warning.message))
        _log.debug("%s: %s", path, warning.message)


def check_finite(model: keras.Model, title: str) -> None:
    """Refuse NaN and infinity: ``ConversionError`` ``non-finite-weights``, with the Keras names of the layers."""
    broken = sorted(
        {weight.path.rpartition("/")[0] for weight in model.weights if not np.isfinite(weight.numpy()).all()}
    )
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise ConversionError(
            f"the weights of {title} contain NaN or infinity in {len(broken)} layers: {', '.join(broken[:5])}{more}",
            hint="use an earlier checkpoint: the training diverged, or the file is damaged",
            code="non-finite-weights",
        )


def _contents(file: Any, path: Path) -> tuple[bool, int, int]:
    """Return (older layout?, number of arrays, numbers in them) of an open ``h5py.File``."""
    import h5py

    root = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
    legacy = "layer_names" in root.attrs
    if not legacy and not any(name in root for name in ("layers", "_layer_checkpoint_dependencies")):
        raise UsageError(
            f"{path} contains no weights of a Keras model",
            hint="save it with model.save_weights('NAME.weights.h5')",
            code="not-weights",
        )
    sizes: list[int] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and "seed_generator" not in name and not name.startswith("optimizer"):
            sizes.append(int(item.size))

    root.visititems(visit)
    return legacy, len(sizes), sum(sizes)


@contextmanager
def named_as_keras_expects(path: Path, suffix: str) -> Iterator[Path]:
    """Yield a path to the file under a name with ``suffix``: Keras decides on the layout by the name."""
    if path.name.endswith(suffix) and (suffix == ".weights.h5" or not path.name.endswith(".weights.h5")):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        named = Path(folder) / f"model{suffix}"
        try:
            named.symlink_to(path.resolve())
        except OSError:  # Windows lets only some users make links
            shutil.copyfile(path, named)
        yield named


def _mismatch(path: Path, title: str, reason: str) -> ConversionError:
    return ConversionError(
        f"{path} does not fit {title}: {' '.join(reason.split())[:300]}", hint=_SAME, code="weights-mismatch"
    )


def _damaged(path: Path, error: Exception) -> ConversionError:
    return ConversionError(
        f"{path} cannot be read: {' '.join(str(error).split())[:200]}",
        hint="delete it and fetch it again: the download may be incomplete",
        code="damaged-weights",
    )
