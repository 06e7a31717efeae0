"""A Keras model of this very process as a model to export: a copy of it, or the model itself where it has no copy.

The model and its layers are the user's own running code, so nothing is inspected in quarantine
(``docs/reference/python.md``). The export changes nothing in it: weights, dtype policies, names, trainable flags and
compilation stay.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.catalog.initialize import drawn_by_numpy
from xxdeploy.convert.catalog.weights import check_finite
from xxdeploy.convert.keras_graph import graph, is_model
from xxdeploy.convert.keras_loader import load_keras
from xxdeploy.convert.user_model.adapt import in_float32
from xxdeploy.convert.user_model.describe import LoadedModel
from xxdeploy.convert.user_model.guard import check_activations
from xxdeploy.convert.user_model.model_file import adapted_config, load_model_file
from xxdeploy.convert.user_model.upgrade_config import upgrade_config
from xxdeploy.errors import UsageError, XXDeployError

_LAMBDA = "xxdeploy>LambdaInMemory"
_PROBES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
"""Ranges of the random numbers with which a copy is compared with its original."""
_CLOSE, _CLOSE_IN_KERAS_2 = 1e-4, 1e-3
"""Largest difference of a copy's outputs, as a share of the largest output: two runs of one graph may differ by the
order in which threads add."""


def copy_of_model(
    model: Any,
    *,
    input_size: int | tuple[int, int] | None = None,
    inference_mode: bool = False,
    images: Path | None = None,
) -> LoadedModel:
    """Return a float32 copy of a model in memory, with a free batch axis, that gives the same outputs.

    A model that has no copy by its configuration (a subclass or a layer without ``get_config``) is returned itself, if
    it computes in float32; its layers then serve both.

    Parameters
    ----------
    model : keras.Model
        Of Keras 3 or of ``tf_keras``, built. A model of ``tf_keras`` is written to a temporary file and read back.
    input_size, inference_mode, images
        As for :func:`~xxdeploy.convert.user_model.model_file.load_model_file`.

    Raises
    ------
    UsageError
        ``model-not-built``; ``bad-input-size``, ``layer-option``, ``training-mode`` as for a file;
        ``model-not-copied``: the model has no copy, and without one it cannot be exported as asked.
    ConversionError
        ``non-finite-weights``, ``activations-too-large``; for ``tf_keras`` those of ``load_model_file``.
    """
    load_keras()
    if is_of_keras_2(model):
        return _from_keras_2(model, input_size, inference_mode, images)
    _check_built(model)
    plain = all(_computes_in_float32(layer) for layer in model._flatten_layers())
    try:
        made, notes = _copied(model, input_size, inference_mode, images, plain=plain)
    except XXDeployError as error:
        if error.code != "model-not-copied":
            raise
        if not plain or inference_mode:
            raise
        made, notes = _itself(model, input_size), (f"{error.message}: its own layers are exported",)
    check_activations(made, Path(model.name))
    check_finite(made, model.name)
    return LoadedModel(made, notes)


def is_of_keras_2(model: Any) -> bool:
    """Return whether ``model`` is one of ``tf_keras``, whether or not that library is installed."""
    library = sys.modules.get("tf_keras")
    return library is not None and isinstance(model, library.Model)


def is_of_keras_3(model: Any) -> bool:
    """Return whether ``model`` is a ``keras.Model`` of Keras 3. Keras is not imported for it."""
    library = sys.modules.get("keras")
    return library is not None and isinstance(model, getattr(library, "Model", ()))


def weights_digest(model: Any) -> str:
    """Return the SHA-256 (hexadecimal) over the shapes and the float32 values of a model's weights, in order."""
    total = hashlib.sha256()
    for weight in model.weights:
        values = np.ascontiguousarray(weight, np.float32)
        total.update(f"{values.shape}:".encode())
        total.update(values.data)
    return total.hexdigest()


def _check_built(model: Any) -> None:
    if not model.built or not (is_model(model) or getattr(model, "_build_shapes_dict", None)):
        raise UsageError(
            f"the model {model.name} is not built: it has no weights and no input shape yet",
            hint="call it once on a batch of pictures, or begin it with keras.Input((height, width, 3))",
            code="model-not-built",
        )


def _computes_in_float32(layer: Any) -> bool:
    policy = layer.dtype_policy
    return (policy.compute_dtype, policy.variable_dtype) == ("float32", "float32") or not layer.variables


def _copied(
    model: Any, input_size: Any, inference_mode: bool, images: Path | None, *, plain: bool
) -> tuple[Any, tuple[str, ...]]:
    """Return a copy by the configuration of ``model``; ``UsageError`` ``model-not-copied``."""
    try:
        config, functions = _config(model)
        if not plain:  # the copy of another dtype cannot be compared with the original, so an equal one is
            _compare(model, _built(copy.deepcopy(config), model, functions), _CLOSE)
        upgraded, notes = in_float32(upgrade_config(config))
        changed, said = adapted_config(
            upgraded, Path(model.name), input_size=input_size, inference_mode=inference_mode, images=images
        )
        made = _built(copy.deepcopy(changed), model, functions)
        if plain and input_size is None:
            _compare(model, made, _CLOSE)
    except XXDeployError:
        raise
    except Exception as error:  # get_config and from_config are the user's code
        raise _not_copied(model, f"{type(error).__name__}: {_reason(error)}") from error
    return made, (*notes, *said)


def _config(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration of a model as JSON has it, without its compilation, and the user's own names in it."""
    import keras

    kind = type(model)
    custom: dict[str, Any] = {}
    for layer in model._flatten_layers():
        for value in (type(layer), *vars(layer).values()):
            if isinstance(value, (type, FunctionType)) and not value.__module__.startswith(("keras.", "tensorflow.")):
                custom[value.__name__] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on lambdas
        config = {
            "module": kind.__module__,
            "class_name": kind.__name__,
            "config": _plain(model.get_config()),
            "registered_name": kind.__name__,
        }
        if not is_model(model):
            config["build_config"] = _plain(model.get_build_config())
    lambdas = list(
        {id(layer): layer for layer in model._flatten_layers() if type(layer) is keras.layers.Lambda}.values()
    )
    names = [layer.name for layer in lambdas]
    if len(set(names)) < len(names):
        raise _not_copied(model, f"several Lambda layers have the name {max(names, key=names.count)}")
    _keep_lambdas(config, names)
    return config, {**custom, _LAMBDA: _lambda_class(lambdas)}


def _plain(value: Any) -> Any:
    """Return a configuration as a file has it: lists, no tuples."""
    from keras.src.saving import serialization_lib

    return json.loads(json.dumps(serialization_lib.serialize_keras_object(value)))


def _keep_lambdas(value: Any, names: list[str]) -> None:
    """Let the configurations of Lambda layers refer to the layers, whose functions may read variables around them."""
    if isinstance(value, list):
        for item in value:
            _keep_lambdas(item, names)
    elif isinstance(value, dict):
        if value.get("class_name") == "Lambda" and value.get("module") == "keras.layers":
            name = value["config"]["name"]
            kept = {"name": name, "dtype": value["config"].get("dtype"), "place": names.index(name)}
            value |= {"module": None, "class_name": _LAMBDA, "registered_name": _LAMBDA, "config": kept}
        else:
            for item in value.values():
                _keep_lambdas(item, names)


def _lambda_class(lambdas: list[Any]) -> type:
    class LambdaInMemory:
        """Builds a Lambda layer with the function of the original."""

        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            import keras

            old = lambdas[config["place"]]
            return keras.layers.Lambda(
                old.function,
                output_shape=old._output_shape,
                mask=old.mask,
                arguments=old.arguments,
                name=config["name"],
                dtype=config["dtype"],
            )

    return LambdaInMemory


def _built(config: dict[str, Any], model: Any, custom: dict[str, Any]) -> Any:
    """Build a model by its configuration, with the weights of ``model``."""
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with drawn_by_numpy(None), ObjectSharingScope(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = keras.saving.deserialize_keras_object(config, custom_objects=custom, safe_mode=False)
    own, other = model.weights, getattr(made, "weights", [])
    shapes = [[tuple(weight.shape) for weight in weights] for weights in (own, other)]
    if not isinstance(made, keras.Model) or shapes[0] != shapes[1]:
        raise _not_copied(model, "get_config() describes other weights")
    for source, target in zip(own, other, strict=True):
        target.assign(keras.ops.convert_to_numpy(source.value))
    return made


def _itself(model: Any, input_size: int | tuple[int, int] | None) -> Any:
    """Return the model's own layers as a model with one call; the layers serve both."""
    import keras

    inner = graph(model)
    if is_model(model) and input_size is None:
        one = len(inner.inputs) == 1 and len(inner.outputs) == 1
        return keras.Model(inner.inputs[0], inner.outputs[0], name=model.name) if one else inner
    shapes = [list(tensor.shape) for tensor in inner.inputs] if is_model(model) else _build_shapes(model)
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return model  # describe_model refuses it
    shape = shapes[0]
    if input_size is not None:
        height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
        shape = [None, height, width, shape[3]]
    image = keras.Input(tuple(shape[1:]), name="image")
    return keras.Model(image, model(image, training=False), name=model.name)


def _build_shapes(model: Any) -> list[list[int | None]]:
    """Return the shapes that a subclass was built with."""
    shapes = (getattr(model, "_build_shapes_dict", None) or {}).values()
    return [list(shape) for shape in shapes if isinstance(shape, (tuple, list))]


def _compare(model: Any, made: Any, close: float) -> None:
    """Raise ``UsageError`` ``model-not-copied`` unless a copy gives the outputs of its original for random numbers."""
    known = graph(model).inputs if is_model(model) else ()
    shapes = [list(tensor.shape) for tensor in known] if known else _build_shapes(model)
    whole = [str(tensor.dtype).startswith(("int", "uint")) for tensor in known] or [False] * len(shapes)
    numbers = np.random.default_rng(0)
    for low, high in _PROBES:
        arrays = [
            numbers.uniform(low, high, [2 if index == 0 else size or 64 for index, size in enumerate(shape)])
            for shape in shapes
        ]
        # An input of integers would drop the fractions, which the float32 copy keeps.
        arrays = [np.floor(np.abs(array)) if is_whole else array for array, is_whole in zip(arrays, whole, strict=True)]
        difference = _difference(model, made, [array.astype(np.float32) for array in arrays])
        if not difference <= close:
            raise _not_copied(model, f"a copy by get_config() gives other outputs (by {difference:.1g})")


def _difference(model: Any, made: Any, arrays: list[NDArray[np.float32]]) -> float:
    """Return the largest difference of two models' outputs, as a share of the largest output."""
    left, right = _outputs(model, arrays), _outputs(made, arrays)
    if [one.shape for one in left] != [one.shape for one in right]:
        return float("inf")
    scale = max(float(np.abs(one).max()) for one in left) or 1.0
    if not np.isfinite(scale):
        return 0.0 if all(np.array_equal(one, two, equal_nan=True) for one, two in zip(left, right, strict=True)) else 1
    return max(float(np.abs(one - two).max()) / scale for one, two in zip(left, right, strict=True))


def _outputs(model: Any, arrays: list[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    import tensorflow as tf

    structure = getattr(graph(model), "_inputs_struct", None)
    inputs: Any = arrays[0] if len(arrays) == 1 else arrays
    if isinstance(structure, (dict, list, tuple)):
        inputs = tf.nest.pack_sequence_as(structure, arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = tf.nest.flatten(model(inputs, training=False))
    return [np.asarray(tf.cast(result, tf.float64)) for result in results]


def _reason(error: Exception) -> str:
    """Return the cause without the configuration that Keras puts before it."""
    return " ".join(str(error).rpartition("Exception encountered: ")[2].split())[:200]


def _not_copied(model: Any, reason: str) -> UsageError:
    return UsageError(
        f"the model {model.name} cannot be copied by its configuration ({reason})",
        hint="give the layers of your own a get_config() with all arguments of __init__, and check that "
        "keras.models.clone_model(model) works",
        code="model-not-copied",
    )


def _from_keras_2(
    model: Any, input_size: int | tuple[int, int] | None, inference_mode: bool, images: Path | None
) -> LoadedModel:
    """Write a model of ``tf_keras`` to a file, read it, and compare both."""
    if not model.built:
        _check_built(model)
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder, _quiet():
        path = Path(folder) / f"{_file_name(model.name)}.h5"
        try:
            model.save(str(path), save_format="h5", include_optimizer=False)
        except Exception as error:  # any class, and get_config is the user's code
            raise UsageError(
                f"the tf_keras model {model.name} cannot be written to a file: {' '.join(str(error).split())[:200]}",
                hint="give the layers of your own a get_config(); a subclass of tf_keras.Model has to be rebuilt with "
                "the functional API",
                code="model-not-copied",
            ) from error
        loaded = load_model_file(
            path, unsafe_lambda=True, input_size=input_size, inference_mode=inference_mode, images=images
        )
    if input_size is None and is_model(loaded.model) and all(None not in t.shape[1:] for t in loaded.model.inputs):
        _compare_with_keras_2(model, loaded.model)
    notes = tuple(note.replace(path.name, model.name) for note in loaded.notes)
    return LoadedModel(loaded.model, (*notes, "the model is one of tf_keras: it was read by Keras 3 and compared"))


def _compare_with_keras_2(model: Any, made: Any) -> None:
    numbers = np.random.default_rng(0)
    loose = model.dtype_policy.compute_dtype != "float32" or any(
        layer.compute_dtype != "float32" for layer in model._flatten_layers() if layer.variables
    )
    for low, high in _PROBES:
        arrays = [numbers.uniform(low, high, (2, *tensor.shape[1:])).astype(np.float32) for tensor in made.inputs]
        difference = _difference(model, made, arrays)
        if not difference <= (0.05 if loose else _CLOSE_IN_KERAS_2):
            raise UsageError(
                f"the tf_keras model {model.name} gives other outputs when Keras 3 reads it (by {difference:.1g})",
                hint="save it as .keras or .h5 and report the file: Keras 3 reads one of its layers differently",
                code="model-not-copied",
            )


def _file_name(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:64] or "model"


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
