"""Every public layer, operation and activation of the installed Keras, as a model of this one thing.

``LAYERS``, ``OPERATIONS`` and ``ACTIVATIONS`` map a name to a recipe: a function from ``Keras`` and a picture
``(n, 9, 8, 4)`` to a tensor. ``NOT_FOR_IMAGES`` maps the other names to the reason why there is no recipe.
``scripts/sweep_keras.py`` exports each recipe; ``random_models`` draws from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras_recipes import (
    SHAPE,
    Recipe,
    call_recipe,
    colors,
    cube,
    integer,
    keras_names,
    made,
    plain_recipes,
    positive,
    rows,
    small,
    square,
    two_recipes,
    vector,
    words,
)

_AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "AugMix": {}, "AutoContrast": {}, "CutMix": {}, "Equalization": {}, "MixUp": {}, "RandAugment": {},
    "RandomBrightness": {"factor": 0.2}, "RandomColorDegeneration": {"factor": 0.2}, "RandomColorJitter": {},
    "RandomContrast": {"factor": 0.2}, "RandomCrop": {"height": 5, "width": 4}, "RandomErasing": {},
    "RandomElasticTransform": {}, "RandomFlip": {}, "RandomGaussianBlur": {"factor": 0.5},
    "RandomGrayscale": {"factor": 0.5}, "RandomHue": {"factor": 0.2}, "RandomInvert": {"factor": 0.5},
    "RandomPerspective": {}, "RandomPosterization": {"factor": 4}, "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.2}, "RandomSharpness": {"factor": 0.2},
    "RandomShear": {"x_factor": 0.2, "y_factor": 0.1},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.1}, "RandomZoom": {"height_factor": 0.2},
    "Solarization": {}, "ContrastLimitedAdaptiveHistogramEqualization": {},
}  # fmt: skip

LAYERS: dict[str, Recipe] = {
    **made(*words("ELU Flatten Identity LeakyReLU PReLU ReLU Softmax Masking")),
    **made(*words("BatchNormalization LayerNormalization RMSNormalization UnitNormalization"), axis=-1),
    **made(*words("Dropout AlphaDropout GaussianDropout SpatialDropout2D"), rate=0.3),
    **made("SpatialDropout1D", on=rows, rate=0.3),
    **made("SpatialDropout3D", on=cube, rate=0.3),
    **made("GaussianNoise", stddev=0.3),
    **made(*words("AveragePooling2D AvgPool2D MaxPool2D MaxPooling2D"), pool_size=2, padding="same"),
    **made(*words("AveragePooling1D AvgPool1D MaxPool1D MaxPooling1D"), on=rows, pool_size=2, padding="same"),
    **made(*words("AveragePooling3D AvgPool3D MaxPool3D MaxPooling3D"), on=cube, pool_size=(2, 2, 1)),
    **made(*words("AdaptiveAveragePooling2D AdaptiveMaxPooling2D"), output_size=(4, 3)),
    **made(*words("AdaptiveAveragePooling1D AdaptiveMaxPooling1D"), on=rows, output_size=4),
    **made(*words("AdaptiveAveragePooling3D AdaptiveMaxPooling3D"), on=cube, output_size=(4, 3, 2)),
    **made(*words("GlobalAveragePooling2D GlobalAvgPool2D GlobalMaxPool2D GlobalMaxPooling2D"), keepdims=True),
    **made(*words("GlobalAveragePooling1D GlobalAvgPool1D GlobalMaxPool1D GlobalMaxPooling1D"), on=rows),
    **made(*words("GlobalAveragePooling3D GlobalAvgPool3D GlobalMaxPool3D GlobalMaxPooling3D"), on=cube),
    **made(*words("Conv2D Convolution2D SeparableConv2D SeparableConvolution2D"), filters=5, kernel_size=3),
    **made(*words("Conv2DTranspose Convolution2DTranspose"), filters=3, kernel_size=3, strides=2),
    **made(*words("Conv1D Convolution1D SeparableConv1D SeparableConvolution1D"), on=rows, filters=5, kernel_size=3),
    **made(*words("Conv1DTranspose Convolution1DTranspose"), on=rows, filters=3, kernel_size=3, strides=2),
    **made(*words("Conv3D Convolution3D"), on=cube, filters=3, kernel_size=3),
    **made(*words("Conv3DTranspose Convolution3DTranspose"), on=cube, filters=2, kernel_size=2, strides=2),
    **made("DepthwiseConv2D", kernel_size=3, padding="same", depth_multiplier=2),
    **made("DepthwiseConv1D", on=rows, kernel_size=3, depth_multiplier=2),
    **made("ConvLSTM1D", on=cube, filters=2, kernel_size=3),
    "ConvLSTM2D": lambda k, x: k.layers.ConvLSTM2D(2, 3)(k.layers.Reshape((1, *x.shape[1:]))(x)),
    "ConvLSTM3D": lambda k, x: k.layers.ConvLSTM3D(2, 3)(k.layers.Reshape((1, *x.shape[1:], 1))(x)),
    **made("Cropping1D", on=rows, cropping=(1, 2)),
    **made("Cropping2D", cropping=((1, 2), (0, 1))),
    **made("Cropping3D", on=cube, cropping=((1, 2), (0, 1), (1, 1))),
    **made("ZeroPadding1D", on=rows, padding=(1, 2)),
    **made("ZeroPadding2D", padding=((1, 2), (0, 1))),
    **made("ZeroPadding3D", on=cube, padding=((1, 2), (0, 1), (1, 1))),
    **made("UpSampling1D", on=rows, size=2),
    **made("UpSampling2D", size=(2, 3), interpolation="bilinear"),
    **made("UpSampling3D", on=cube, size=(2, 2, 1)),
    **made("Dense", units=5, activation="gelu"),
    **made("EinsumDense", equation="bhwc,cd->bhwd", output_shape=(None, None, 5), bias_axes="d"),
    **made("ActivityRegularization", l1=0.1),
    **made("Activation", activation="mish"),
    **made("CenterCrop", height=5, width=4),
    **made("Resizing", height=5, width=12),
    **made("Rescaling", scale=0.5, offset=-0.1),
    **made("Reshape", target_shape=(-1, 4)),
    **made("Permute", dims=(2, 3, 1)),
    **made("GroupNormalization", groups=2),
    "Normalization": lambda k, x: k.layers.Normalization(mean=vector().tolist(), variance=vector().tolist())(x),
    **made("RepeatVector", on=lambda k, x: k.layers.Flatten()(x), n=3),
    "Embedding": lambda k, x: k.layers.Embedding(20, 3)(k.ops.minimum(integer(k, x), 19)),
    "CategoryEncoding": lambda k, x: k.layers.CategoryEncoding(20, output_mode="multi_hot")(
        k.ops.minimum(integer(k, k.layers.Flatten()(x)), 19)
    ),
    "Discretization": lambda k, x: k.layers.Discretization(bin_boundaries=[-1.0, 0.0, 0.5])(x),
    "TimeDistributed": lambda k, x: k.layers.TimeDistributed(k.layers.Dense(3))(x),
    "SpectralNormalization": lambda k, x: k.layers.SpectralNormalization(k.layers.Conv2D(3, 3))(x),
    "Pipeline": lambda k, x: k.layers.Pipeline([k.layers.Rescaling(0.5), k.layers.CenterCrop(5, 4)])(x),
    **made(*words("GRU LSTM SimpleRNN"), on=rows, units=3),
    "RNN": lambda k, x: k.layers.RNN(k.layers.SimpleRNNCell(3))(rows(k, x)),
    "Bidirectional": lambda k, x: k.layers.Bidirectional(k.layers.LSTM(3))(rows(k, x)),
    "MultiHeadAttention": lambda k, x: k.layers.MultiHeadAttention(2, 3)(rows(k, x), rows(k, x)),
    "GroupQueryAttention": lambda k, x: k.layers.GroupQueryAttention(3, 4, 2)(rows(k, x), rows(k, x)),
    "Attention": lambda k, x: k.layers.Attention(use_scale=True)([rows(k, x), rows(k, x * 0.5)]),
    "AdditiveAttention": lambda k, x: k.layers.AdditiveAttention()([rows(k, x), rows(k, x * 0.5)]),
    "Dot": lambda k, x: k.layers.Dot(axes=2, normalize=True)([rows(k, x), rows(k, x * x)]),
    "MelSpectrogram": lambda k, x: k.layers.MelSpectrogram(16, 4, 16)(k.layers.Flatten()(x)),
    "STFTSpectrogram": lambda k, x: k.layers.STFTSpectrogram(frame_length=16, frame_step=4)(
        k.layers.Reshape((-1, 1))(x)
    ),
    "ReversibleEmbedding": lambda k, x: k.layers.ReversibleEmbedding(20, 3)(k.ops.minimum(integer(k, x), 19)),
    "Concatenate": lambda k, x: k.layers.Concatenate()([x, x * 2.0]),
    **{
        name: call_recipe("layers", name, of=lambda k, x: [x, k.ops.flip(x, axis=1)])
        for name in words("Add Average Maximum Minimum Multiply Subtract")
    },
    **{
        name: call_recipe("layers", name, of=colors, **options)
        for name, options in _AUGMENTATIONS.items()
    },
}  # fmt: skip

ACTIVATIONS = words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid
    sparsemax squareplus swish tanh tanh_shrink threshold
    """
)


def activation(name: str) -> Recipe:
    """Return the recipe of an activation by its name; ``threshold`` needs two numbers, which a layer cannot give."""
    return lambda k, x: k.layers.Activation(name)(x)


OPERATIONS: dict[str, Recipe] = {
    **plain_recipes(
        *words(
            """
            abs absolute arcsinh arctan ceil copy cos cosh deg2rad erf erfc exp exp2 expm1 fabs floor hard_shrink
            hard_sigmoid hard_silu hard_swish hard_tanh i0 identity isfinite isinf isnan isneginf isposinf isreal
            log_sigmoid nan_to_num negative rad2deg ravel relu relu6 round selu sigmoid sign signbit silu sin sinc sinh
            soft_shrink softplus softsign sparse_plus sparse_sigmoid square squareplus stop_gradient swish tanh
            tanh_shrink trunc zeros_like ones_like fliplr flipud gelu elu celu leaky_relu cbrt angle conj conjugate
            real imag size ndim empty_like logical_not count_nonzero all any isreal nanmax nansum
            """
        )
    ),
    **plain_recipes(*words("log log10 log1p log2 reciprocal rsqrt sqrt"), of=positive),
    **plain_recipes(*words("arcsin arccos arctanh erfinv tan"), of=small),
    **plain_recipes("arccosh", of=lambda k, x: positive(k, x) + 1.0),
    **plain_recipes(
        *words(
            """
            amax amin argmax argmin argsort average cumsum cumprod glu log_softmax logsumexp max mean median min prod
            ptp softmax sort sparsemax std sum var nanargmax nanargmin nancumprod nancumsum nanmean nanmedian nanmin
            nanprod nanstd nanvar normalize diff norm
            """
        ),
        last=True,
    ),
    **plain_recipes(*words("det inv cholesky pinv eig eigh svd qr logdet slogdet matrix_rank lu_factor"), of=square),
    **plain_recipes("cholesky_inverse", of=lambda k, x: k.ops.cholesky(square(k, x))),
    **plain_recipes(*words("bitwise_invert bitwise_not"), of=integer),
    **two_recipes(
        *words(
            """
            add arctan2 equal fmax fmin greater greater_equal heaviside hypot isclose less less_equal logaddexp
            logaddexp2 logical_and logical_or logical_xor maximum minimum multiply not_equal subtract nextafter
            divide_no_nan
            """
        )
    ),
    **two_recipes(*words("divide floor_divide fmod mod power true_divide"), of=positive),
    **two_recipes(*words("bitwise_and bitwise_or bitwise_xor gcd lcm"), of=integer),
    **two_recipes("matmul", of=lambda k, x: k.ops.transpose(x, (0, 3, 1, 2))[..., :8, :]),
    **two_recipes(*words("solve lstsq"), of=square),
    "solve_triangular": lambda k, x: k.ops.solve_triangular(k.ops.cholesky(square(k, x)), square(k, x), lower=True),
    "ldexp": lambda k, x: k.ops.ldexp(x, integer(k, x)),
    **{
        name: call_recipe("ops", name, 2, of=integer)
        for name in words("bitwise_left_shift bitwise_right_shift left_shift right_shift")
    },
    "adaptive_average_pool": lambda k, x: k.ops.adaptive_average_pool(x, (4, 3)),
    "adaptive_max_pool": lambda k, x: k.ops.adaptive_max_pool(x, (4, 3)),
    "append": lambda k, x: k.ops.append(x, x * 2.0, axis=1),
    "argpartition": lambda k, x: k.ops.argpartition(x, 2, axis=-1)[..., 2:3],
    "array_split": lambda k, x: k.ops.array_split(x, 3, axis=1)[1],
    "average_pool": lambda k, x: k.ops.average_pool(x, 2, 2, "same"),
    "batch_normalization": lambda k, x: k.ops.batch_normalization(x, vector(), vector(), -1, vector(), vector()),
    "broadcast_to": lambda k, x: k.ops.broadcast_to(x[:1], (2, *SHAPE)),
    "cast": lambda k, x: k.ops.cast(x * 3.0, "int32"),
    "cdist": lambda k, x: k.ops.cdist(rows(k, x), rows(k, x * 0.5)),
    "clip": lambda k, x: k.ops.clip(x, -0.3, 0.4),
    "concatenate": lambda k, x: k.ops.concatenate([x, x * 2.0], axis=2),
    "conv": lambda k, x: k.ops.conv(x, vector(3 * 3 * 4 * 2).reshape(3, 3, 4, 2), padding="same"),
    "conv_transpose": lambda k, x: k.ops.conv_transpose(x, vector(3 * 3 * 4 * 2).reshape(3, 3, 2, 4), strides=2),
    "corrcoef": lambda k, x: k.ops.corrcoef(k.ops.reshape(x, (-1, 9 * 8 * 4))),
    "correlate": lambda k, x: k.ops.correlate(k.ops.ravel(x), vector(), mode="same"),
    "cross": lambda k, x: k.ops.cross(x[..., :3], x[..., 1:]),
    "depth_to_space": lambda k, x: k.ops.depth_to_space(x, 2),
    "depthwise_conv": lambda k, x: k.ops.depthwise_conv(x, vector(3 * 3 * 4).reshape(3, 3, 4, 1)),
    "diag": lambda k, x: k.ops.diag(k.ops.ravel(x[:1, :2, :2, 0])),
    "diagflat": lambda k, x: k.ops.diagflat(x[:1, :2, :2, 0]),
    "diagonal": lambda k, x: k.ops.diagonal(x, axis1=1, axis2=2),
    "digitize": lambda k, x: k.ops.digitize(x, np.array([-1.0, 0.0, 0.5])),
    "dot": lambda k, x: k.ops.dot(x, vector(20).reshape(4, 5)),
    "dot_product_attention": lambda k, x: k.ops.dot_product_attention(x, x * 0.5, x),
    "dsplit": lambda k, x: k.ops.dsplit(x, 2)[1],
    "dstack": lambda k, x: k.ops.dstack([x, x]),
    "einsum": lambda k, x: k.ops.einsum("bhwc,cd->bhdw", x, vector(20).reshape(4, 5)),
    "expand_dims": lambda k, x: k.ops.expand_dims(x, 2),
    "extract_sequences": lambda k, x: k.ops.extract_sequences(k.layers.Flatten()(x), 16, 8),
    "flip": lambda k, x: k.ops.flip(x, axis=(1, 2)),
    "fold": lambda k, x: k.ops.fold(k.ops.transpose(rows(k, x), (0, 2, 1))[:, :, :6], (3, 4), (2, 2)),
    "full_like": lambda k, x: k.ops.full_like(x, 2.0),
    "get_item": lambda k, x: k.ops.get_item(x, (slice(None), slice(1, 7, 2), slice(None, None, -1))),
    "histogram": lambda k, x: k.ops.histogram(x, 5)[0],
    "hsplit": lambda k, x: k.ops.hsplit(x, 3)[1],
    "hstack": lambda k, x: k.ops.hstack([x, x]),
    "in_top_k": lambda k, x: k.ops.in_top_k(k.ops.argmax(x[:, 0, 0], axis=-1), x[:, 0, 0], 2),
    "inner": lambda k, x: k.ops.inner(x, vector()),
    "isin": lambda k, x: k.ops.isin(integer(k, x), np.array([1, 3, 5])),
    "kron": lambda k, x: k.ops.kron(x[:, 0, 0], vector(8).reshape(2, 4)),
    "layer_normalization": lambda k, x: k.ops.layer_normalization(x, vector(), vector()),
    "matrix_transpose": lambda k, x: k.ops.swapaxes(x, -1, -2),
    "max_pool": lambda k, x: k.ops.max_pool(x, 3, 2, "same"),
    "meshgrid": lambda k, x: k.ops.meshgrid(k.ops.ravel(x[:, 0, 0, 0]), k.ops.ravel(x[:, 0, 0, 1]))[0],
    "moments": lambda k, x: k.ops.moments(x, axes=[1, 2])[1],
    "moveaxis": lambda k, x: k.ops.moveaxis(x, 3, 1),
    "multi_hot": lambda k, x: k.ops.multi_hot(integer(k, x)[:, 0, 0], 9),
    "nanpercentile": lambda k, x: k.ops.nanpercentile(x, 30, axis=-1),
    "nanquantile": lambda k, x: k.ops.nanquantile(x, 0.3, axis=-1),
    "one_hot": lambda k, x: k.ops.one_hot(integer(k, x)[:, 0, 0], 9),
    "outer": lambda k, x: k.ops.outer(x[:, 0, 0, 0], vector()),
    "pad": lambda k, x: k.ops.pad(x, ((0, 0), (1, 2), (2, 0), (0, 0)), mode="reflect"),
    "percentile": lambda k, x: k.ops.percentile(x, 30, axis=-1),
    "quantile": lambda k, x: k.ops.quantile(x, 0.3, axis=-1),
    "rearrange": lambda k, x: k.ops.rearrange(x, "b (h p) w c -> b h w (p c)", p=3),
    "repeat": lambda k, x: k.ops.repeat(x, 2, axis=2),
    "reshape": lambda k, x: k.ops.reshape(x, (-1, 8, 9, 4)),
    "rms_normalization": lambda k, x: k.ops.rms_normalization(x, vector()),
    "roll": lambda k, x: k.ops.roll(x, 2, axis=1),
    "rot90": lambda k, x: k.ops.rot90(x, axes=(1, 2)),
    "saturate_cast": lambda k, x: k.ops.saturate_cast(x * 300.0, "uint8"),
    "scatter_update": lambda k, x: k.ops.scatter_update(x, np.array([[0, 1, 2, 3]]), np.ones(1, np.float32)),
    "searchsorted": lambda k, x: k.ops.searchsorted(np.array([-1.0, 0.0, 0.5], np.float32), k.ops.ravel(x)),
    "select": lambda k, x: k.ops.select([x > 0.5, x > 0.0], [x, x * 2.0], 0.1),
    "separable_conv": lambda k, x: k.ops.separable_conv(
        x, vector(3 * 3 * 4).reshape(3, 3, 4, 1), vector(8).reshape(1, 1, 4, 2)
    ),
    "slice": lambda k, x: k.ops.slice(x, (0, 1, 2, 0), (1, 5, 4, 3)),
    "slice_update": lambda k, x: k.ops.slice_update(x, (0, 1, 2, 0), np.ones((1, 2, 2, 4), np.float32)),
    "space_to_depth": lambda k, x: k.ops.space_to_depth(x[:, :8], 2),
    "split": lambda k, x: k.ops.split(x, 2, axis=-1)[1],
    "squeeze": lambda k, x: k.ops.squeeze(x[:, :1], axis=1),
    "stack": lambda k, x: k.ops.stack([x, x * 2.0], axis=3),
    "swapaxes": lambda k, x: k.ops.swapaxes(x, 1, 2),
    "take": lambda k, x: k.ops.take(x, np.array([3, 0, 2]), axis=1),
    "take_along_axis": lambda k, x: k.ops.take_along_axis(x, k.ops.argsort(x, axis=-1), axis=-1),
    "tensordot": lambda k, x: k.ops.tensordot(x, vector(20).reshape(4, 5), axes=1),
    "threshold": lambda k, x: k.ops.threshold(x, 0.2, -0.1),
    "tile": lambda k, x: k.ops.tile(x, (1, 2, 1, 1)),
    "top_k": lambda k, x: k.ops.top_k(x, 2)[0],
    "trace": lambda k, x: k.ops.trace(x, axis1=1, axis2=2),
    "transpose": lambda k, x: k.ops.transpose(x, (0, 2, 3, 1)),
    "trapezoid": lambda k, x: k.ops.trapezoid(x, axis=1),
    **plain_recipes(*words("tril triu"), of=square),
    "unfold": lambda k, x: k.ops.unfold(k.ops.transpose(x, (0, 3, 1, 2)), 2),
    "unravel_index": lambda k, x: k.ops.unravel_index(integer(k, x), (50, 50))[0],
    "unstack": lambda k, x: k.ops.unstack(x, axis=1)[2],
    "vander": lambda k, x: k.ops.vander(k.ops.ravel(x[:, 0, 0, 0]), 3),
    "vdot": lambda k, x: k.ops.vdot(x, x),
    "view": lambda k, x: k.ops.view(x, "int32"),
    "view_as_complex": lambda k, x: k.ops.abs(k.ops.view_as_complex(x[..., :2])),
    "view_as_real": lambda k, x: k.ops.view_as_real(k.ops.view_as_complex(x[..., :2])),
    "polar": lambda k, x: k.ops.abs(k.ops.polar(positive(k, x), x)),
    "fft": lambda k, x: k.ops.fft((x, x * 0.0))[0],
    "fft2": lambda k, x: k.ops.fft2((x, x * 0.0))[0],
    "ifft2": lambda k, x: k.ops.ifft2((x, x * 0.0))[0],
    "rfft": lambda k, x: k.ops.rfft(x)[0],
    "irfft": lambda k, x: k.ops.irfft((x, x * 0.0)),
    "stft": lambda k, x: k.ops.stft(k.layers.Flatten()(x), 16, 8, 16)[0],
    "istft": lambda k, x: k.ops.istft(k.ops.stft(k.layers.Flatten()(x), 16, 8, 16), 16, 8, 16),
    "vsplit": lambda k, x: k.ops.vsplit(x, 1)[0],
    "vstack": lambda k, x: k.ops.vstack([x, x]),
    "where": lambda k, x: k.ops.where(x > 0.1, x, 0.5),
    "segment_max": lambda k, x: k.ops.segment_max(k.ops.ravel(x[0]), np.arange(288) // 32, 9),
    **{
        name: call_recipe("ops", name, np.arange(288) // 32, 9, of=lambda k, x: k.ops.ravel(x[0]))
        for name in words("segment_min segment_prod segment_sum")
    },
    "bincount": lambda k, x: k.ops.bincount(integer(k, x)[:, 0, 0], minlength=9),
    "psnr": lambda k, x: k.ops.psnr(x, x * 0.9, 1.0),
    "binary_crossentropy": lambda k, x: k.ops.binary_crossentropy(k.ops.sigmoid(x), k.ops.sigmoid(x * 0.5)),
    "categorical_crossentropy": lambda k, x: k.ops.categorical_crossentropy(k.ops.softmax(x), k.ops.softmax(x * 0.5)),
    "sparse_categorical_crossentropy": lambda k, x: k.ops.sparse_categorical_crossentropy(
        k.ops.argmax(x, axis=-1), k.ops.softmax(x)
    ),
    "image.affine_transform": lambda k, x: k.ops.image.affine_transform(
        x, np.array([1, 0.1, -1, 0, 1, 1, 0, 0], np.float32)
    ),
    "image.crop_images": lambda k, x: k.ops.image.crop_images(x, 1, 2, None, None, 5, 4),
    "image.elastic_transform": lambda k, x: k.ops.image.elastic_transform(x, seed=1),
    "image.extract_patches": lambda k, x: k.ops.image.extract_patches(x, 3),
    "image.extract_patches_3d": lambda k, x: k.ops.image.extract_patches_3d(cube(k, x), 2),
    "image.gaussian_blur": lambda k, x: k.ops.image.gaussian_blur(x),
    "image.hsv_to_rgb": lambda k, x: k.ops.image.hsv_to_rgb(k.ops.sigmoid(x[..., :3])),
    "image.map_coordinates": lambda k, x: k.ops.image.map_coordinates(
        x[0, ..., 0], np.array([[1.5, 2.0], [0.5, 3.0]], np.float32), 1
    ),
    "image.pad_images": lambda k, x: k.ops.image.pad_images(x, 1, 2, None, None, 12, 11),
    "image.perspective_transform": lambda k, x: k.ops.image.perspective_transform(
        x,
        np.array([[[0, 0], [0, 7], [8, 0], [8, 7]]], np.float32),
        np.array([[[1, 0], [0, 7], [8, 1], [7, 7]]], np.float32),
    ),
    "image.resize": lambda k, x: k.ops.image.resize(x, (14, 5)),
    "image.rgb_to_grayscale": lambda k, x: k.ops.image.rgb_to_grayscale(x[..., :3]),
    "image.rgb_to_hsv": lambda k, x: k.ops.image.rgb_to_hsv(k.ops.sigmoid(x[..., :3])),
    "image.scale_and_translate": lambda k, x: k.ops.image.scale_and_translate(
        x, (2, 12, 12, 4), np.array([1.3, 1.4], np.float32), np.array([0.5, 0.0], np.float32), (1, 2), "linear"
    ),
    "image.sobel_edges": lambda k, x: k.ops.image.sobel_edges(x),
    "image.ssim": lambda k, x: k.ops.image.ssim(x, x * 0.9, 1.0, filter_size=3),
}
OPERATIONS.pop("matrix_transpose")

REFUSED = frozenset(
    words(
        """
        layers.Masking layers.AveragePooling3D layers.AvgPool3D layers.MaxPool3D layers.MaxPooling3D
        layers.AdaptiveAveragePooling3D layers.AdaptiveMaxPooling3D layers.GlobalAveragePooling3D
        layers.GlobalAvgPool3D layers.GlobalMaxPool3D layers.GlobalMaxPooling3D layers.Conv3D layers.Convolution3D
        layers.Conv3DTranspose layers.Convolution3DTranspose layers.ConvLSTM1D layers.ConvLSTM2D layers.ConvLSTM3D
        layers.Cropping3D layers.ZeroPadding3D layers.UpSampling3D layers.CategoryEncoding layers.Discretization
        layers.GroupQueryAttention
        layers.MelSpectrogram layers.STFTSpectrogram layers.ReversibleEmbedding layers.Equalization
        layers.ContrastLimitedAdaptiveHistogramEqualization
        ops.i0 ops.identity ops.isreal ops.signbit ops.angle ops.imag ops.size ops.ndim
        ops.empty_like ops.erfinv ops.nanargmax ops.nanargmin ops.nancumprod ops.nancumsum ops.nanmedian ops.det
        ops.inv ops.cholesky ops.pinv ops.eig ops.eigh ops.svd ops.qr ops.logdet ops.slogdet ops.matrix_rank
        ops.lu_factor ops.cholesky_inverse ops.bitwise_invert ops.bitwise_not ops.nextafter ops.bitwise_and
        ops.bitwise_or ops.bitwise_xor ops.gcd ops.lcm ops.solve ops.lstsq ops.solve_triangular ops.ldexp
        ops.bitwise_left_shift ops.bitwise_right_shift ops.left_shift ops.right_shift ops.argpartition
        ops.broadcast_to ops.cdist ops.conv_transpose ops.corrcoef ops.correlate ops.cross ops.diag ops.diagflat
        ops.digitize ops.histogram ops.in_top_k ops.inner ops.isin ops.kron ops.meshgrid ops.nanpercentile
        ops.nanquantile ops.rearrange ops.searchsorted ops.slice_update ops.unfold ops.unravel_index ops.vander
        ops.view ops.view_as_complex ops.view_as_real ops.polar ops.fft ops.fft2 ops.ifft2 ops.rfft ops.irfft
        ops.stft ops.istft ops.segment_max ops.segment_min ops.segment_prod ops.segment_sum ops.bincount
        ops.binary_crossentropy ops.categorical_crossentropy ops.sparse_categorical_crossentropy
        ops.image.affine_transform ops.image.elastic_transform ops.image.map_coordinates
        ops.image.perspective_transform activations.threshold
        """
    )
)
"""The recipes that do not export, or that Keras itself cannot build or run."""

_REASONS: Mapping[str, str] = {
    "takes no picture": """
        arange array bartlett blackman convert_to_numpy convert_to_tensor dtype empty eye full geomspace hamming hanning
        is_tensor kaiser linspace logspace ones scatter shape tri zeros
        """,
    "takes a function": """
        associative_scan cond custom_gradient fori_loop jvp map scan switch vectorize vectorized_map while_loop
        """,
    "the shape of its result depends on the values": "nonzero unique",
    "a score or a loss of a whole set": "allclose ctc_decode ctc_loss",
    "runs code of another framework, of a folder, or of the file": """
        FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper
        """,
    "reads words": "Hashing HashedCrossing IntegerLookup StringLookup TextVectorization",
    "is a base class or a part of another layer": """
        GRUCell InputLayer InputSpec LSTMCell Layer SimpleRNNCell StackedRNNCells Wrapper
        """,
    "reads boxes": "MaxNumBoundingBoxes",
}
NOT_FOR_IMAGES: Mapping[str, str] = {name: reason for reason, names in _REASONS.items() for name in words(names)}


def model_of(recipe: Recipe) -> Any:
    """Return a ``keras.Model`` of ``recipe`` on a picture ``(n, 9, 8, 4)``, with a float32 output."""
    k = keras_names()
    picture = k.keras.Input((*SHAPE[:2], 3), name="picture")
    # A convolution in front, so that layout passes have something to do.
    result = recipe(k, k.layers.Conv2D(4, 1, name="first")(picture))
    if k.keras.backend.standardize_dtype(result.dtype) != "float32":
        result = k.ops.cast(result, "float32")
    return k.keras.Model(picture, result)
