"""Local response normalization, a layer of 2012 that Keras lacks. Importing this module imports Keras."""

from __future__ import annotations

from typing import Any

from xxdeploy.optional import extra

with extra("export"):
    import keras


@keras.saving.register_keras_serializable(package="xxdeploy")
class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Divide each value by a power of the squares in the ``size`` channels around it.

    ``b[c] = a[c] / (k + alpha * sum(a[j]**2 for j in c - size // 2 .. c + size // 2)) ** beta``

    A. Krizhevsky, I. Sutskever, G. E. Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
    NIPS 2012, section 3.3, whose constants are the defaults. Here ``alpha`` multiplies the sum, as in that
    paper and in TensorFlow; Caffe, PyTorch and ONNX multiply the mean (their ``alpha`` is ``size`` times ours).

    Computed in float32 under each policy, since squares overflow float16. ``ValueError``: ``size`` is even or less
    than 1.
    """

    def __init__(
        self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0, **options: Any
    ) -> None:
        super().__init__(**options)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size must be odd and positive, not {size}")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def call(self, inputs: Any) -> Any:
        """``(n, h, w, c)`` -> ``(n, h, w, c)``, channels last."""
        import tensorflow as tf

        squeezed = tf.nn.local_response_normalization(
            tf.cast(inputs, tf.float32), self.size // 2, self.k, self.alpha, self.beta
        )
        return tf.cast(squeezed, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for saving."""
        own = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "k": self.k}
        return {**super().get_config(), **own}
