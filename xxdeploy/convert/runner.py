"""A Keras model behind the ``Runner`` protocol: the reference that everything else is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xxdeploy.convert.libraries import load_tensorflow
from xxdeploy.errors import ConversionError

if TYPE_CHECKING:
    import keras


class KerasRunner:
    """Runs ``model(x, training=False)`` as one traced function; satisfies ``artifacts.Runner``.

    The trace has a free batch axis, so that batches of any size share it. ``model.predict`` is not used: it adds a
    dataset, callbacks and a progress bar to each call.

    Parameters
    ----------
    model : keras.Model
        One input ``(n, h, w, c)`` float32, one output.
    name : str
        What the runner is called in tables.

    Raises
    ------
    ConversionError
        ``not-one-output``: the model has several inputs or outputs.
    """

    def __init__(self, model: keras.Model, name: str = "keras") -> None:
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ConversionError(
                f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs",
                hint="only a model with one image input and one output can be exported",
                code="not-one-output",
            )
        tf = load_tensorflow()
        self.name = name
        shape = (None, *model.inputs[0].shape[1:])
        self._shape = shape[1:]
        self._call = tf.function(
            lambda batch: model(batch, training=False),
            input_signature=[tf.TensorSpec(shape, tf.float32)],
            autograph=False,
        )
        self._tensor = tf.constant

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map a preprocessed batch ``(n, h, w, c)`` float32 to ``(n, classes)`` (or features) float32.

        Raises
        ------
        ConversionError
            ``wrong-batch``: the batch is empty, or has another shape or dtype than the model's input.
        """
        fits = (
            batch.size
            and batch.ndim == len(self._shape) + 1
            and all(wanted in (None, given) for wanted, given in zip(self._shape, batch.shape[1:], strict=True))
        )
        if not fits or batch.dtype != np.float32:
            sizes = ", ".join("any" if size is None else str(size) for size in self._shape)
            raise ConversionError(
                f"a batch of {batch.dtype} {batch.shape} does not fit the model's float32 (n, {sizes})",
                hint="preprocess the images with the Preprocess that belongs to the model",
                code="wrong-batch",
            )
        return np.asarray(self._call(self._tensor(batch)).numpy(), dtype=np.float32)
