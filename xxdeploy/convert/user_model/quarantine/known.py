"""The classes of Keras that a model file may name: those that only compute. Imports nothing.

Left out because they read files, run code, or look things up in files: ``Lambda``, ``TFSMLayer``,
``TorchModuleWrapper``, ``JaxLayer``, ``FlaxLayer``, ``StringLookup``, ``IntegerLookup``, ``TextVectorization``,
``Discretization``, ``Hashing``; operations that take functions (``Map``, ``Scan``, ``WhileLoop``, ``Cond``, ...) or
make large tensors out of small ones (``Full``, ``Arange``, ``Tile``, ``Repeat``, ``BroadcastTo``, ...).
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODELS = frozenset({"Functional", "Sequential", "Model"})

AUGMENTATIONS = _words(
    """
    AugMix AutoContrast CutMix Equalization MixUp RandAugment RandomBrightness RandomColorDegeneration
    RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
    RandomGaussianBlur RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective
    RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation
    RandomWidth RandomZoom Solarization
"""
)

NOISES = _words(
    """
    ActivityRegularization AlphaDropout Dropout GaussianDropout GaussianNoise SpatialDropout1D
    SpatialDropout2D SpatialDropout3D
"""
)

LAYERS = (
    AUGMENTATIONS
    | NOISES
    | _words(
        """
    Activation AdaptiveAveragePooling2D AdaptiveMaxPooling2D Add Average AveragePooling1D AveragePooling2D
    AvgPool2D BatchNormalization CenterCrop Concatenate Conv1D Conv2D Conv2DTranspose Convolution2D
    Convolution2DTranspose Cropping1D Cropping2D Dense DepthwiseConv2D Dot ELU EinsumDense Embedding Flatten
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAvgPool2D GlobalMaxPool2D GlobalMaxPooling1D
    GlobalMaxPooling2D GroupNormalization Identity InputLayer LayerNormalization LeakyReLU MaxPool2D
    MaxPooling1D MaxPooling2D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute Pipeline
    RMSNormalization ReLU RepeatVector Rescaling Reshape Resizing SeparableConv2D SeparableConvolution2D
    Softmax SpectralNormalization Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D
    ZeroPadding1D ZeroPadding2D
"""
    )
)

INITIALIZERS = _words(
    """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal
    VarianceScaling Zeros
"""
)

OTHERS = _words(
    """
    L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm DTypePolicy FloatDTypePolicy
    DTypePolicyMap Policy
"""
)
"""Regularizers, constraints, number formats."""

ACTIVATIONS = _words(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign
    sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink
"""
)

OPERATIONS = {
    "numpy": _words(
        """
    Abs Absolute Add Amax Amin Average Clip Concatenate Divide DivideNoNan Einsum Equal Exp ExpandDims Flip
    Floor GetItem Greater GreaterEqual Less LessEqual Log Matmul Max Maximum Mean Min Minimum Moveaxis
    Multiply Negative NotEqual Pad Power Ravel Reciprocal Reshape Round Sign Split Sqrt Square Squeeze Stack
    Std Subtract Sum Swapaxes Tanh Transpose TrueDivide Var Where
"""
    ),
    "nn": _words(
        """
    AveragePool BatchNorm Celu Conv DepthToSpace DepthwiseConv Elu Gelu Glu HardSigmoid HardSilu HardTanh
    LayerNorm LeakyRelu LogSigmoid LogSoftmax MaxPool Moments Normalize RMSNorm Relu Relu6 Selu SeparableConv
    Sigmoid Silu Softmax Softplus Softsign SpaceToDepth
"""
    ),
    "core": frozenset({"Cast", "StopGradient", "Unstack"}),
    "image": frozenset({"Resize", "RGBToGrayscale", "CropImages", "PadImages"}),
    "math": frozenset({"Rsqrt", "Erf", "Logsumexp"}),
}
"""Operations of ``keras.ops`` by their module in ``keras.src.ops``."""

OLD_OPERATIONS = frozenset({"TFOpLambda", "SlicingOpLambda"})
"""The classes of operations in files of Keras 2; ``keras2_operations`` translates the known ones."""

_PLACES = {
    "keras": MODELS | OTHERS,
    "keras.models": MODELS,
    "keras.layers": LAYERS,
    "keras.initializers": INITIALIZERS,
    "keras.regularizers": OTHERS,
    "keras.constraints": OTHERS,
    "keras.dtype_policies": OTHERS,
    "keras.mixed_precision": OTHERS,
}


def is_known(name: str, module: str | None) -> bool:
    """Return whether ``name`` of ``module`` (None in files of Keras 2) is a class that may be built."""
    if module is None:
        old = MODELS | LAYERS | INITIALIZERS | OTHERS | OLD_OPERATIONS
        return name in old or any(name in names for names in OPERATIONS.values())
    if module in _PLACES:
        return name in _PLACES[module]
    root, _, rest = module.partition(".")
    if root not in ("keras", "tf_keras") or not rest.startswith(("src.", "engine.", "layers.", "models.")):
        return False
    if rest.startswith("src.ops"):
        return name in OPERATIONS.get(rest.removeprefix("src.ops."), ())
    return name in MODELS | LAYERS | INITIALIZERS | OTHERS | OLD_OPERATIONS
