"""Names of Keras that ``known`` leaves out, with the reason. Imports nothing.

The reason continues a sentence: "the file uses keras.layers.Masking, which ...".
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAMES = {
    "computes on volumes, and xxdeploy exports layers for images": """
        AdaptiveAveragePooling3D AdaptiveMaxPooling3D AveragePooling3D AvgPool3D Conv3D Conv3DTranspose ConvLSTM3D
        Convolution3D Convolution3DTranspose Cropping3D GlobalAveragePooling3D GlobalAvgPool3D GlobalMaxPool3D
        GlobalMaxPooling3D MaxPool3D MaxPooling3D UpSampling3D ZeroPadding3D
        """,
    "computes on series of images, and xxdeploy exports layers for single images": "ConvLSTM1D ConvLSTM2D",
    "passes a mask to the layers after it, and xxdeploy does not export masks": "Masking",
    "turns numbers of a table into categories, and xxdeploy exports layers for images": """
        CategoryEncoding Discretization HashedCrossing Hashing
        """,
    "looks words up in a vocabulary, which can be any file": "IntegerLookup StringLookup TextVectorization",
    "reads sound, and xxdeploy exports layers for images": "MelSpectrogram STFTInitializer STFTSpectrogram",
    "reads boxes, and xxdeploy exports layers for images": "MaxNumBoundingBoxes",
    "runs code of another framework": "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
    "is a base class, which computes nothing by itself": """
        Constraint InputSpec Initializer Layer Operation Regularizer SegmentReduction Wrapper
        """,
    "calls a Python function, which the file may choose": """
        AssociativeScan Cond ForiLoop Function JVP Map Scan Switch VectorizedMap WhileLoop
        """,
    "makes a tensor of any size without reading the image": """
        Arange Array BroadcastTo ConvertToTensor EmptyLike Full Geomspace Linspace Logspace Scatter
        """,
    "has a result whose shape depends on the values": "Nonzero Unique",
    "is a loss or a score, not a part of a network in inference": """
        AllClose BinaryCrossentropy CTCDecode CTCLoss CategoricalCrossentropy SparseCategoricalCrossentropy
        """,
    "computes with complex numbers, which xxdeploy does not export": """
        Angle Conj FFT FFT2 IFFT2 IRFFT ISTFT Imag Isreal Polar RFFT STFT ViewAsComplex ViewAsReal
        """,
    "computes with the bits of numbers, which xxdeploy does not export": """
        BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor LeftShift Nextafter
        RightShift Signbit View
        """,
    "computes with whole matrices, and xxdeploy has no ONNX form of it": """
        Cholesky CholeskyInverse Corrcoef Correlate Cross Det Diag Diagflat Eig Eigh Inner Inv Kron Logdet Lstsq
        LuFactor MatrixRank Pinv Qr SVD Slogdet Solve SolveTriangular Vander
        """,
    "is quantized already, and xxdeploy quantizes models in float": """
        AWQDTypePolicy GPTQDTypePolicy Int4DTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy
        """,
    "has no ONNX form in xxdeploy": """
        AffineTransform Argpartition Bincount CDist ContrastLimitedAdaptiveHistogramEqualization Digitize
        ElasticTransform Erfinv Gcd GroupQueryAttention GroupedQueryAttention Histogram I0 InTopK IsIn Lcm Ldexp
        MapCoordinates Meshgrid Nanargmax Nanargmin Nancumprod Nancumsum Nanmedian Nanpercentile Nanquantile Ndim
        PerspectiveTransform Rearrange ReversibleEmbedding SearchSorted SegmentMax SegmentMin SegmentProd SegmentSum
        Size SliceUpdate Unfold UnravelIndex
        """,
    "Keras 3 no longer has": "LocallyConnected1D LocallyConnected2D",
}
_REASONS = {name: reason for reason, names in _NAMES.items() for name in _words(names)}


def reason_for(name: str) -> str | None:
    """Return why a file may not use a name of Keras; None if this is no name of Keras that is known here."""
    return _REASONS.get(name)
