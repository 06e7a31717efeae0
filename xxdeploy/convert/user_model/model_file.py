"""Load a user's ``.keras`` or ``.h5`` file into a ``keras.Model`` without running code of the file."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xxdeploy.convert.catalog.initialize import drawn_by_numpy
from xxdeploy.convert.catalog.weights import check_finite, named_as_keras_expects
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.adapt import in_float32, with_free_batch, with_input_size
from xxdeploy.convert.user_model.archive_weights import renamed_weights, weights_of_part
from xxdeploy.convert.user_model.custom_objects import custom_names, import_custom_objects
from xxdeploy.convert.user_model.describe import LoadedModel
from xxdeploy.convert.user_model.guard import (
    assigned_variables,
    check_activations,
    no_more_weights_than,
    readable_adaptive_pools,
)
from xxdeploy.convert.user_model.layer_options import (
    in_inference_mode,
    refuse_state,
    refuse_training_mode,
    without_unknown_options,
)
from xxdeploy.convert.user_model.quarantine import InspectedModel, inspect_model_file
from xxdeploy.convert.user_model.quarantine.hdf5 import layers_with_weights
from xxdeploy.convert.user_model.quarantine.sniff import is_saved_model
from xxdeploy.convert.user_model.recurrent_weights import readable_weights
from xxdeploy.convert.user_model.saved_model.load import load_saved_model, refuse_file_options
from xxdeploy.convert.user_model.upgrade_config import upgrade_config
from xxdeploy.convert.user_model.usual_size import usual_size
from xxdeploy.errors import ConversionError, UsageError, XXDeployError

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)


def load_model_file(
    path: Path,
    *,
    weights: Path | None = None,
    custom_objects: Sequence[str] = (),
    unsafe_lambda: bool = False,
    input_size: int | tuple[int, int] | None = None,
    inference_mode: bool = False,
    images: Path | None = None,
    output_layer: str | None = None,
) -> LoadedModel:
    """Load a whole model saved by Keras 2 or 3, or the default signature of a SavedModel folder.

    A child process inspects the file first (``quarantine``). The file may name the layers and operations of
    ``quarantine.known`` and those in ``custom_objects``; nothing else is imported or called.

    Parameters
    ----------
    path : Path
        A ``.keras`` archive or an HDF5 file; the content decides, not the name.
    weights : Path | None
        The file of weights, if ``path`` is the JSON of an architecture (``model.to_json()``).
    custom_objects : Sequence[str]
        ``module:name`` of the user's own layers and functions, which are imported, hence trusted.
    unsafe_lambda : bool
        Run the Python code of Lambda layers, with the rights of the user.
    input_size : int | tuple[int, int] | None
        Height and width in pixels, for a model that takes images of any size, or to change the saved size. None: the
        saved size, or the one that ``usual_size`` finds.
    inference_mode : bool
        Take ``training=True`` out of the calls of layers, instead of refusing the model.
    images : Path | None
        A folder whose images, if they all have one size, have the size of a model that takes any.
    output_layer : str | None
        The layer whose output is asked for: layers that it does not need are left out if they are code or have inputs
        of their own, such as a loss.

    Raises
    ------
    UsageError
        Those of ``convert.user_model.quarantine.inspect_model_file``; ``bad-custom-objects``, ``old-operation``,
        ``bad-input-size``, ``layer-option``, ``training-mode``.
    ConversionError
        ``damaged-model``, ``unsafe-model``, ``weights-mismatch``, ``non-finite-weights``,
        ``activations-too-large``, ``build-failed``: Keras cannot build the model.
    MissingDependencyError
        TensorFlow is absent or unusable.
    """
    if is_saved_model(path):
        refuse_file_options(path, weights, custom_objects, unsafe_lambda, inference_mode)
        return load_saved_model(path, input_size=input_size, images=images)
    custom = custom_names(custom_objects)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        file = inspect_model_file(
            path,
            Path(folder),
            weights=weights,
            custom=custom,
            unsafe_lambda=unsafe_lambda,
            output_layer=output_layer,
        )
        config, notes = adapted(file, input_size, inference_mode, images)
        keras = load_keras()
        objects = import_custom_objects(custom_objects)
        try:
            try:
                # A copy, because Keras empties a configuration while it reads it, and it may be read again.
                model = _built(copy.deepcopy(config), file, objects, unsafe_lambda)
            except ConversionError:
                dropped = without_unknown_options(config, keras)
                if not dropped:
                    raise
                notes += dropped
                model = _built(config, file, objects, unsafe_lambda)
            check_activations(model, path)
            _fill(model, file, Path(folder))
        except ConversionError as error:
            if input_size is None or error.code not in ("build-failed", "weights-mismatch"):
                raise
            raise UsageError(
                f"{path} does not work with this --input-size: {error.message}",
                hint="leave --input-size out: layers of the model depend on the size of its training",
                code="bad-input-size",
            ) from error
    check_finite(model, path.name)
    return LoadedModel(model, notes)


def adapted(
    file: InspectedModel, input_size: int | tuple[int, int] | None, inference_mode: bool, images: Path | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the configuration that Keras shall build, and notes. Errors as :func:`load_model_file`; no framework."""
    try:
        config, notes = in_float32(upgrade_config(file.config, old=(file.keras_version or "").startswith(("1.", "2."))))
        config, said = adapted_config(
            config, file.path, input_size=input_size, inference_mode=inference_mode, images=images, more=file.notes
        )
        notes += said + _told_by_content(file)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"{file.path} has an inconsistent configuration: {type(error).__name__}: {str(error)[:200]}",
            hint="save the model again, with model.save('NAME.keras')",
            code="damaged-model",
        ) from error
    return config, notes


def adapted_config(
    config: dict[str, Any],
    path: Path,
    *,
    input_size: int | tuple[int, int] | None,
    inference_mode: bool,
    images: Path | None = None,
    more: tuple[str, ...] = (),
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a configuration in float32 with a free batch axis and the requested or usual input size, and notes.

    ``path`` has the model's name; ``more`` are notes that come first. ``config`` is changed. Errors as
    :func:`load_model_file`.
    """
    notes = more + with_free_batch(config)
    refuse_state(config)
    if inference_mode:
        notes += in_inference_mode(config)
    else:
        refuse_training_mode(config)
    if input_size is None and (usual := usual_size(config, path, images)) is not None:
        input_size, said = usual
        notes += (f"the model takes images of any size: {input_size[0]} x {input_size[1]}, {said} (or --input-size N)",)
    if input_size is not None:
        with_input_size(config, input_size)
    return config, notes


def _told_by_content(file: InspectedModel) -> tuple[str, ...]:
    """Return a note if the name of the file says another format than its content."""
    if file.weights != file.path and file.kind == "h5":  # an architecture and its weights
        return ()
    usual, name = {"keras": ((".keras", ".json"), "a .keras archive"), "h5": ((".h5", ".hdf5"), "an HDF5 file")}[
        file.kind
    ]
    return () if file.path.suffix.lower() in usual else (f"{file.path.name} is {name}, and was read as one",)


def _built(config: dict[str, Any], file: InspectedModel, objects: dict[str, Any], unsafe_lambda: bool) -> keras.Model:
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    try:
        with (
            no_more_weights_than(file.numbers, file.path),
            readable_adaptive_pools(),
            drawn_by_numpy(None),  # zeros: each weight is read from the file next
            ObjectSharingScope(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # on sizes, names and old options; parity with Keras is measured later
            model = keras.saving.deserialize_keras_object(config, custom_objects=objects, safe_mode=not unsafe_lambda)
    except XXDeployError:
        raise
    except Exception as error:  # a custom layer may raise anything, and so does Keras on hostile configurations
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise ConversionError(
            f"Keras {keras.__version__} cannot build the model of {file.path}: {reason}",
            hint=f"it was saved by Keras {file.keras_version or 'of an unknown version'}: load and save it with "
            f"Keras {keras.__version__}",
            code="build-failed",
        ) from error
    if not isinstance(model, keras.Model):
        raise ConversionError(
            f"{file.path} contains a {type(model).__name__}, not a model",
            hint="save the whole model, with model.save('NAME.keras')",
            code="damaged-model",
        )
    return model


def _fill(model: keras.Model, file: InspectedModel, folder: Path) -> None:
    """Read the weights, by copies in ``folder`` if need be, and check that each variable received a value."""
    suffix = ".h5" if file.kind == "h5" else ".weights.h5"
    weights, old = file.weights, (file.keras_version or "").startswith("2.")
    if old and file.kind == "keras":
        weights = renamed_weights(weights, folder)
    if file.kind == "keras":
        weights = weights_of_part(weights, folder, file.order, model)
    weights = readable_weights(weights, folder)
    try:
        with (
            named_as_keras_expects(weights, suffix) as named,
            assigned_variables() as assigned,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # missing weights are an error below
            model.load_weights(str(named), **({"by_name": True} if _is_by_name(model, file) else {}))
    except OSError as error:
        raise ConversionError(
            f"{file.path} is damaged: {' '.join(str(error).split())[:200]}",
            hint="the copy or download may be incomplete: fetch it or save it again",
            code="damaged-model",
        ) from error
    except Exception as error:  # as for building
        raise _mismatch(file.path, _reason(error)) from error
    missing = [
        weight.path for weight in model.weights if id(weight) not in assigned and "seed_generator" not in weight.path
    ]
    if missing:
        raise _mismatch(file.path, f"weights are missing for {', '.join(missing[:3])}")


def _is_by_name(model: keras.Model, file: InspectedModel) -> bool:
    """Tell whether names, not the order, find the weights: the file has all layers, in another order or among others.

    Keras counts layers where it could compare names, so swapped layers of one shape would load silently.
    """
    if file.kind != "h5":
        return False
    own, stored = tuple(layer.name for layer in model.layers if layer.weights), layers_with_weights(file.weights)
    return own != stored and set(own) <= set(stored) and len(set(stored)) == len(stored)


def _reason(error: Exception) -> str:
    """Return the cause without the configuration that Keras puts before it."""
    return " ".join(str(error).rpartition("Exception encountered: ")[2].split())[:300]


def _mismatch(path: Path, reason: str) -> ConversionError:
    return ConversionError(
        f"the weights in {path} do not fit its layers: {reason}",
        hint="save the model again: the file is damaged, or a version of Keras with another order of weights saved it",
        code="weights-mismatch",
    )
