"""A runner of a Keras model, the reference of all comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.keras_graph import graph, is_model
from xxdeploy.convert.keras_loader import load_keras, load_tensorflow, replaced
from xxdeploy.convert.tensors import cast, view
from xxdeploy.errors import ConversionError
from xxdeploy.runtime.inputs import unpack

if TYPE_CHECKING:
    import keras


class KerasRunner:
    """Runs ``model(x, training=False)`` as one traced function; satisfies ``results.ManyRunner``.

    The trace has a free batch axis, so batches of any size share it. ``model.predict`` would add a dataset, callbacks
    and a progress bar to each call. ``model`` has one input ``(n, h, w, c)`` float32, or several inputs, whose batches
    are rows (:mod:`xxdeploy.runtime.inputs`); ``outputs`` names each output, and ``name`` the runner in tables.
    ``ConversionError`` ``output-names``: the number of outputs differs from the number of names.
    """

    def __init__(self, model: keras.Model, name: str = "keras", *, outputs: Sequence[str] = ("output",)) -> None:
        if len(model.outputs) != len(outputs):
            raise ConversionError(
                f"the model has {len(model.outputs)} outputs, and {len(outputs)} names are given",
                hint="give one name per output",
                code="output-names",
            )
        tf = load_tensorflow()
        self.name = name
        self._model, self._outputs = model, tuple(outputs)
        self._shapes = input_shapes(model)
        self._call = tf.function(
            lambda *parts: tf.nest.flatten(model(parts[0] if len(parts) == 1 else list(parts), training=False)),
            input_signature=[tf.TensorSpec((None, *shape), tf.float32) for shape in self._shapes],
            autograph=False,
        )
        self._tensor = tf.constant

    def exact(self, batches: Sequence[NDArray[np.float32]]) -> Mapping[str, NDArray[np.float64]]:
        """Return each output of the same model in float64 for all ``batches``, joined."""
        return exact_outputs(self._model, batches, self._outputs)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map a preprocessed batch ``(n, h, w, c)`` float32 to the first output, ``(n, classes)`` or features, float32.

        ``ConversionError`` ``wrong-batch``: the batch is empty, or has another shape or dtype than the model's input.
        """
        return next(iter(self.run_all(batch).values()))

    def run_all(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Map a preprocessed batch to every output by its name, the first one first. Errors as :meth:`run`."""
        several = len(self._shapes) > 1
        shape = (sum(math.prod(part) for part in self._shapes),) if several else self._shapes[0]
        fits = (
            batch.size
            and batch.ndim == len(shape) + 1
            and all(wanted in (None, given) for wanted, given in zip(shape, batch.shape[1:], strict=True))
        )
        if not fits or batch.dtype != np.float32:
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            raise ConversionError(
                f"a batch of {batch.dtype} {batch.shape} does not fit the model's float32 (n, {sizes})",
                hint="preprocess the images with the model's own Preprocess",
                code="wrong-batch",
            )
        results = self._call(*map(self._tensor, unpack(batch, self._shapes) if several else (batch,)))
        return {
            name: np.asarray(result.numpy(), dtype=np.float32)
            for name, result in zip(self._outputs, results, strict=True)
        }


def input_shapes(model: keras.Model) -> list[tuple[Any, ...]]:
    """Return the shape of each input without the batch axis; a side that may have any size is None."""
    return [tuple(tensor.shape[1:]) for tensor in model.inputs]


def exact_outputs(
    model: keras.Model, batches: Sequence[NDArray[np.float32]], outputs: Sequence[str]
) -> Mapping[str, NDArray[np.float64]]:
    """Return the outputs of ``model`` in float64, by name, for preprocessed images (n, height, width, channels).

    Keras' float32 differs from them by about as much as another correct implementation does: the error of a sum depends
    on the order of its terms (N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2). One image
    and the weights of one layer are in float64 at a time, so the memory does not grow with the model.
    """
    load_keras()
    shapes = input_shapes(model)

    def parts(image: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        row = image[None].astype(np.float64)
        return unpack(row, shapes) if len(shapes) > 1 else [row]

    with _computing_in_float64(model):
        answers = [_exact(model, parts(image)) for batch in batches for image in batch]
    return {name: np.concatenate(parts) for name, parts in zip(outputs, zip(*answers, strict=True), strict=True)}


@contextmanager
def _computing_in_float64(model: keras.Model) -> Iterator[None]:
    """Within this context each layer casts its inputs and weights to float64 when it is called."""
    import keras
    from keras.src.backend.common.variables import AutocastScope

    policy = keras.DTypePolicy("float64")
    policy._variable_dtype = "float32"  # what the weights are; Keras casts those that differ from the computation
    with ExitStack() as stack:
        for layer in model._flatten_layers():
            stack.enter_context(replaced(layer, "_dtype_policy", policy))
        stack.enter_context(replaced(AutocastScope, "maybe_cast", _cast_weight))
        yield


def _cast_weight(scope: Any, value: Any) -> Any:
    """Return a variable's value in the type of ``scope``, in memory that goes back to the system."""
    array = view(value)
    return value if scope.dtype is None or array.dtype.kind != "f" else cast(array, scope.dtype)


def _exact(model: Any, images: list[Any]) -> list[NDArray[np.float64]]:
    """Run the graph of a model; calling the model would cast the images to the float32 of its input."""
    import tensorflow as tf

    def step(operation: Any) -> Any:
        if is_model(operation):
            return lambda *tensors, **_: graph(operation)._run_through_graph(tensors, operation_fn=step)
        if "training" not in getattr(operation, "_call_context_args", ()):
            return operation
        return lambda *tensors, **given: operation(*tensors, **{**given, "training": False})

    return [np.asarray(result) for result in tf.nest.flatten(step(model)(*images))]
