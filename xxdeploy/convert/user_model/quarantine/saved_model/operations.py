"""The operations of TensorFlow that a SavedModel may use: those that compute their outputs from their inputs only.

An operation that reads or writes files, runs Python, opens a connection, keeps a state, draws random numbers or runs a
loop is not here. ``REASONS`` says why for those that models often have. Imports nothing.
"""

from __future__ import annotations

import re


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


COMPUTING = words(
    """
    Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh AvgPool BatchMatMul BatchMatMulV2
    BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddV1 BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Conv2D
    Conv2DBackpropInput Cos Cosh Cumprod Cumsum DepthToSpace DepthwiseConv2dNative Div DivNoNan Einsum Elu Equal Erf
    Erfc Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather
    GatherNd GatherV2 Greater GreaterEqual Inv IsFinite IsInf IsNan L2Loss LRN LeakyRelu Less LessEqual Log Log1p
    LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart Max MaxPool MaxPoolV2 Maximum Mean Min Minimum
    MirrorPad Mod Mul Neg NotEqual OneHot OnesLike Pack Pad PadV2 Pow Prod Range Rank RealDiv Reciprocal Relu Relu6
    Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor Reverse ReverseV2 Rint Round Rsqrt
    ScaleAndTranslate Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign
    SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Tan Tanh Tile
    TopKV2 Transpose TruncateDiv Unpack Xdivy Xlogy ZerosLike
    """
)
"""Copied into the graph that TensorFlow gets."""

PASSING = words("CheckNumerics EnsureShape GuaranteeConst Identity IdentityN PreventGradient Snapshot StopGradient")
"""Their outputs are their inputs, so their readers read those."""

CALLS = words("PartitionedCall StatefulPartitionedCall")
"""Calls of a function of the library, which is put in their place."""

VARIABLES = words("VarHandleOp Variable VariableV2")
IGNORED = words("Assert NoOp")
"""Without outputs."""
SOURCES = words("Const Placeholder PlaceholderWithDefault ReadVariableOp")

ALLOWED = COMPUTING | PASSING | CALLS | VARIABLES | IGNORED | SOURCES

OUTPUTS: dict[str, tuple[str, ...]] = {
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3"),
    "TopKV2": ("values", "indices"),
}
"""The names of the outputs of operations with several of different names; the others have one, or one list."""

_LOOP = "is part of a loop or a branch (a recurrent layer, or Python's if and for on tensors)"
_FILES = "reads or writes files"
_PYTHON = "runs Python"
_NET = "opens connections to other machines"
_TABLE = "looks values up in a table"
_CODEC = "decodes pictures or text inside the model; choose a signature that takes pixels (--signature NAME)"
_RANDOM = "draws random numbers: the model was saved as it computes in training (dropout, noise)"
_STATE = "changes variables: the model was saved as it computes in training"
_REASONS: tuple[tuple[str, str], ...] = (
    (r"(Stateless)?(While|If|Case)|TensorList.*|EmptyTensorList|Switch|Merge|Enter|Exit|NextIteration|LoopCond", _LOOP),
    (r"TensorArray.*|RefSwitch|RefMerge|For|MapDefun|CudnnRNN.*|LSTMBlock.*|BlockLSTM.*|GRUBlock.*", _LOOP),
    (r"(Read|Write)File|MatchingFiles|.*Reader(V2)?|Save.*|Restore.*|MergeV2.*|.*Dataset.*|.*Filename.*", _FILES),
    (r"Print(V2)?|ImmutableConst|DebugIdentity.*|.*Summary.*|LoadLibrary.*", _FILES),
    (r"E?(Eager)?PyFunc(Stateless)?|.*Py(thon)?Func.*|XlaCallModule|XlaLaunch.*|RemoteCall|.*Custom.*", _PYTHON),
    (r"Rpc.*|TryRpc|.*(Send|Recv).*|Collective.*|.*TPU.*|Bigtable.*|BigQuery.*", _NET),
    (r".*HashTable.*|LookupTable.*|InitializeTable.*|.*Vocab.*|.*Embedding.*", _TABLE),
    (
        r"Decode.*|Encode.*|ExtractJpeg.*|ParseExample.*|ParseSingle.*|String.*|.*Regex.*|AsString|Substr|Base64.*",
        _CODEC,
    ),
    (r".*Random.*|.*Multinomial.*|StatefulUniform.*|Bucketize.*|.*Rng.*", _RANDOM),
    (r"Assign.*|ResourceApply.*|ResourceScatter.*|Apply.*", _STATE),
)


def reason_for(operation: str) -> str:
    """Return why an operation that is not ``ALLOWED`` is refused; it continues the sentence "..., which ..."."""
    for pattern, reason in _REASONS:
        if re.fullmatch(pattern, operation):
            return reason
    return "is not on xxdeploy's list of operations that only compute on images"
