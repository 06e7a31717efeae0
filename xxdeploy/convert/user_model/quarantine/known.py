"""The classes of Keras that a model file may name: those that only compute. Imports nothing.

Left out because they read files, run code, or look things up in files: ``Lambda``, ``TFSMLayer``,
``TorchModuleWrapper``, ``JaxLayer``, ``FlaxLayer``, ``StringLookup``, ``IntegerLookup``, ``TextVectorization``,
``Discretization``, ``Hashing``; operations that take functions (``Map``, ``Scan``, ``WhileLoop``, ``Cond``, ...) or
make tensors from nothing (``Full``, ``Arange``, ``Linspace``, ...). ``guard.check_activations`` bounds the tensors that
operations such as ``Tile`` make before anything is computed.
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
    Activation AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveMaxPooling1D AdaptiveMaxPooling2D Add
    AdditiveAttention Attention Average AveragePooling1D AveragePooling2D AvgPool2D BatchNormalization Bidirectional
    CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Convolution2D Convolution2DTranspose
    Cropping1D Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dot ELU EinsumDense Embedding Flatten GRU GRUCell
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAvgPool2D GlobalMaxPool2D GlobalMaxPooling1D
    GlobalMaxPooling2D GroupNormalization Identity InputLayer LSTM LSTMCell LayerNormalization LeakyReLU MaxPool2D
    MaxPooling1D MaxPooling2D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute Pipeline
    RMSNormalization RNN ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D
    SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax SpectralNormalization StackedRNNCells Subtract
    TimeDistributed UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D
"""
    )
)

CONVNEXT = frozenset({"LayerScale", "StochasticDepth"})
"""Keras' own layers for ``keras.applications.ConvNeXt*``, which ``keras.layers`` does not have."""
INCEPTION_RESNET = frozenset({"CustomScaleLayer"})
"""The same for ``keras.applications.InceptionResNetV2``."""
_INCEPTION_RESNET = {"mixed_6a", "conv_7b", "conv_7b_ac"}

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
    sparse_plus sparse_sigmoid sparsemax squareplus threshold swish tanh tanh_shrink
"""
)

OPERATIONS = {
    "numpy": _words(
        """
    Abs Absolute Add All Amax Amin Any Append Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin
    Argsort ArraySplit Average Cbrt Ceil Clip Concatenate Conjugate Copy Cos Cosh CountNonzero
    Cumprod Cumsum Deg2rad Diagonal Diff Divide DivideNoNan Dot Dsplit Dstack Einsum Equal Exp Exp2
    ExpandDims Expm1 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod FullLike GetItem Greater GreaterEqual
    Heaviside Hsplit Hstack Hypot Isclose Isfinite Isinf Isnan Isneginf Isposinf Less LessEqual Log
    Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor Matmul Max Maximum Mean Median
    Min Minimum Mod Moveaxis Multiply NanToNum Nanmax Nanmean Nanmin Nanprod Nanstd Nansum Nanvar Negative NotEqual
    OnesLike Outer Pad Percentile Power Prod Ptp Quantile Rad2deg Ravel Real Reciprocal Repeat Reshape Roll Rot90
    Round Select Sign Sin Sinc Sinh Sort Split Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes Take
    TakeAlongAxis Tan Tanh Tensordot Tile Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Var Vdot Vsplit
    Vstack Where ZerosLike
"""
    ),
    "nn": _words(
        """
    AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm Celu Conv ConvTranspose DepthToSpace DepthwiseConv
    DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm LeakyRelu LogSigmoid
    LogSoftmax MaxPool Moments MultiHot Normalize OneHot PSNR RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu
    SoftShrink Softmax Softplus Softsign SpaceToDepth SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink
    Threshold
"""
    ),
    "core": frozenset({"Cast", "SaturateCast", "ScatterUpdate", "Slice", "StopGradient", "Unstack"}),
    "image": _words(
        """
    CropImages ExtractPatches GaussianBlur HSVToRGB PadImages RGBToGrayscale
    RGBToHSV Resize SSIM ScaleAndTranslate SobelEdges
"""
    ),
    "linalg": frozenset({"Norm"}),
    "math": frozenset({"Erf", "Erfc", "ExtractSequences", "Logsumexp", "Rsqrt", "TopK"}),
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
    "keras.applications.convnext": CONVNEXT,
    "keras.src.applications.convnext": CONVNEXT,
    "keras.applications.inception_resnet_v2": INCEPTION_RESNET,
    "keras.src.applications.inception_resnet_v2": INCEPTION_RESNET,
}


def layers_of_networks(layers: set[str]) -> frozenset[str]:
    """Return the classes that Keras' networks define themselves, of those that have all these ``layers``.

    HDF5 names no module, and many users write a class of the same name that computes something else.
    """
    convnext = any(layer.endswith("_stage_3_block_2_depthwise_conv") for layer in layers)
    return (CONVNEXT if convnext else frozenset()) | (INCEPTION_RESNET if layers >= _INCEPTION_RESNET else frozenset())


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
