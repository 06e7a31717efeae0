"""The user's own ``.keras`` or ``.h5`` file into a ``keras.Model``, without running anything that it brings."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.catalog.initialize import drawn_by_numpy
from xxdeploy.convert.catalog.weights import check_finite, named_as_keras_expects
from xxdeploy.convert.libraries import load_keras
from xxdeploy.convert.user_model.adapt import in_float32, with_free_batch, with_input_size
from xxdeploy.convert.user_model.custom_objects import custom_names, import_custom_objects
from xxdeploy.convert.user_model.guard import assigned_variables, check_activations, no_more_weights_than
from xxdeploy.convert.user_model.quarantine import ModelFile, inspect_model_file
from xxdeploy.convert.user_model.upgrade_config import modernize
from xxdeploy.errors import ConversionError, UsageError, XXDeployError

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model from a file, in float32, with a free batch axis; ``notes`` says what was changed for that."""

    model: keras.Model
    notes: tuple[str, ...]


def load_model_file(
    path: Path,
    *,
    custom_objects: Sequence[str] = (),
    unsafe_lambda: bool = False,
    input_size: int | tuple[int, int] | None = None,
) -> LoadedModel:
    """Load a model that Keras 2 or 3 saved whole.

    The file is looked at in a process of its own first (``quarantine``). What it names must be a layer or operation
    on a list, or given by ``custom_objects``; nothing else is imported or called.

    Parameters
    ----------
    path : Path
        ``NAME.keras`` or ``NAME.h5``, and that by its content, too.
    custom_objects : Sequence[str]
        ``module:name`` of the user's own layers and functions. They are imported, hence trusted.
    unsafe_lambda : bool
        Run the Python code of Lambda layers, which can do anything that the user can.
    input_size : int | tuple[int, int] | None
        Height and width, in pixels, for a model that takes pictures of any size, or another size than it was saved
        with.

    Raises
    ------
    UsageError
        Those of ``convert.user_model.quarantine.inspect_model_file``; ``bad-custom-objects``, ``old-operation``,
        ``bad-input-size``.
    ConversionError
        ``damaged-model``, ``unsafe-model``, ``weights-mismatch``, ``non-finite-weights``,
        ``activations-too-large``, ``build-failed``: Keras cannot build it.
    MissingDependencyError
        TensorFlow is absent or unusable.
    """
    custom = custom_names(custom_objects)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        found = inspect_model_file(path, Path(folder), custom=custom, unsafe_lambda=unsafe_lambda)
        config, notes = _adapted(found, input_size)
        load_keras()
        objects = import_custom_objects(custom_objects)
        try:
            model = _built(config, found, objects, unsafe_lambda)
            check_activations(model, path)
            _fill(model, found)
        except ConversionError as error:
            if input_size is None or error.code not in ("build-failed", "weights-mismatch"):
                raise
            raise UsageError(
                f"{path} cannot take pictures of that --input-size: {error.message}",
                hint="leave --input-size out: layers of the model depend on the size that it was trained with",
                code="bad-input-size",
            ) from error
    check_finite(model, path.name)
    return LoadedModel(model, notes)


def _adapted(found: ModelFile, input_size: int | tuple[int, int] | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        config, notes = in_float32(modernize(found.config, old=(found.keras_version or "").startswith(("1.", "2."))))
        notes += with_free_batch(config)
        if input_size is not None:
            with_input_size(config, input_size)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"{found.path} has a configuration that makes no sense: {type(error).__name__}: {str(error)[:200]}",
            hint="save the model again, with model.save('NAME.keras')",
            code="damaged-model",
        ) from error
    return config, notes


def _built(config: dict[str, Any], found: ModelFile, objects: dict[str, Any], unsafe_lambda: bool) -> keras.Model:
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    try:
        with (
            no_more_weights_than(found.numbers, found.path),
            drawn_by_numpy(None),  # zeros: every weight is read from the file next
            ObjectSharingScope(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # about sizes, names and old options; results are compared later
            model = keras.saving.deserialize_keras_object(config, custom_objects=objects, safe_mode=not unsafe_lambda)
    except XXDeployError:
        raise
    except Exception as error:  # a custom layer may raise anything, and so does Keras on hostile configurations
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise ConversionError(
            f"Keras {keras.__version__} cannot build the model of {found.path}: {reason}",
            hint=f"it was saved by Keras {found.keras_version or 'of an unknown version'}"
            "; load and save it with the Keras that is installed here",
            code="build-failed",
        ) from error
    if not isinstance(model, keras.Model):
        raise ConversionError(
            f"{found.path} holds a {type(model).__name__}, no model",
            hint="save the whole model, with model.save('NAME.keras')",
            code="damaged-model",
        )
    return model


def _fill(model: keras.Model, found: ModelFile) -> None:
    """Read the weights, and see to it that every variable got its own."""
    suffix = ".h5" if found.kind == "h5" else ".weights.h5"
    try:
        with (
            named_as_keras_expects(found.weights, suffix) as named,
            assigned_variables() as assigned,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # what Keras only warns of is an error below
            model.load_weights(str(named))
    except OSError as error:
        raise ConversionError(
            f"{found.path} is damaged: {' '.join(str(error).split())[:200]}",
            hint="it may be a copy or download that was cut off: fetch or save it again",
            code="damaged-model",
        ) from error
    except Exception as error:  # as for building
        raise _mismatch(found.path, _reason(error)) from error
    missing = [
        weight.path for weight in model.weights if id(weight) not in assigned and "seed_generator" not in weight.path
    ]
    if missing:
        raise _mismatch(found.path, f"there are none for {', '.join(missing[:3])}")


def _reason(error: Exception) -> str:
    """Return what went wrong: Keras puts whole configurations in front of it."""
    return " ".join(str(error).rpartition("Exception encountered: ")[2].split())[:300]


def _mismatch(path: Path, reason: str) -> ConversionError:
    return ConversionError(
        f"the weights in {path} do not fit its layers: {reason}",
        hint="the file is damaged, or was saved by a version of Keras that orders weights otherwise: save it again",
        code="weights-mismatch",
    )
