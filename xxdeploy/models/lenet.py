"""LeNet, which ``keras.applications`` lacks.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition,
Proceedings of the IEEE 86(11), 1998. This is the form in use today: ReLU instead of sigmoids, max pooling instead of
trained subsampling, softmax instead of radial basis functions, wider layers, and 28 x 28 images without the border of
two pixels.
"""

from __future__ import annotations

from xxdeploy.optional import extra

with extra("export"):
    import keras
    from keras import layers


def lenet(
    *,
    weights: None = None,
    input_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    include_top: bool = True,
    pooling: str | None = None,
) -> keras.Model:
    """Build LeNet: 155,606 parameters, ``(n, 28, 28, 1)`` -> ``(n, 10)`` probabilities; 16 x 16 or more.

    Layers: convolution 32 5x5, max pooling, convolution 64 5x5, max pooling, dense 100, dense ``classes``
    with softmax; the convolutions are "valid", as in the paper. The options are those of
    :class:`~xxdeploy.models.frame.Frame`; features are those of the second pooling, ``(n, h, w, 64)`` or ``(n, 64)``.
    """
    del weights
    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(32, 5, activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(64, 5, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    if include_top:
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(100, activation="relu", name="dense1")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D(name="pooled")(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D(name="pooled")(x)
    return keras.Model(image, x, name="lenet")
