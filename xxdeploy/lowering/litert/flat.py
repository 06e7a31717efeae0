"""A LiteRT file as it is written: tensors, buffers and operators, packed as a FlatBuffer.

The format is ``schema.fbs`` of LiteRT (https://github.com/google-ai-edge/LiteRT); ``ai-edge-litert`` ships its classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.optional import extra
from xxdeploy.runtime.engines.session import TensorInfo

with extra("litert"):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}
_SCHEMA_VERSION = 3
_NEWEST_IN_ONE_BYTE = 127
"""An operator above this code is written into the wider field of ``OperatorCode`` only."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """``real = scale * (integer - zero_point)``; one scale, or one for each index of ``axis``."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


HALF_FROM = 1024
"""Numbers of a float constant from which a file of half precision holds it in float16."""


def is_half(array: NDArray[Any]) -> bool:
    """Tell whether float16 holds each number of a large float32 array exactly."""
    if array.dtype != np.float32 or array.size < HALF_FROM:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(array.astype(np.float16).astype(np.float32), array))


class FlatModel:
    """A file under construction. Tensors are known by their index; each has a static shape.

    With ``half``, large float constants are stored in float16 where that changes no number, and a DEQUANTIZE gives the
    float32 tensor that operators read: XNNPACK does so once, when it loads the file.
    """

    def __init__(self, *, half: bool = False) -> None:
        self._half = half
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # the first buffer is empty by definition
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[object, ...], int] = {}
        self._metadata: list[Any] = []
        self._wide: dict[int, int] = {}

    def tensor(self, name: str, shape: Sequence[int], kind: str, quantization: Quantization | None = None) -> int:
        """Add a tensor that an operator writes, or an input. ``kind`` is a numpy type's name."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, np.array(shape, np.int32), _TYPES[kind]
        tensor.hasRank = True
        tensor.quantization = _quantization(quantization)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def kind(self, index: int) -> str:
        """Return the numpy type of a tensor."""
        return next(name for name, code in _TYPES.items() if code == self.tensors[index].type)

    def info(self, index: int) -> TensorInfo:
        """Return name, type and shape of a tensor."""
        tensor = self.tensors[index]
        return TensorInfo(tensor.name, self.kind(index), tuple(map(int, tensor.shape)))

    def constant(self, name: str, array: NDArray[Any], quantization: Quantization | None = None) -> int:
        """Add a constant, once for equal bytes, shapes and scales."""
        if self._half and quantization is None and is_half(array):
            return self._widened(name, array.astype(np.float16))
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        key = (array.dtype.name, array.shape, data.tobytes(), quantization)
        if key not in self._constants:
            index = self.tensor(name, array.shape, array.dtype.name, quantization)
            self.tensors[index].buffer = self._buffer(data)
            self._constants[key] = index
        return self._constants[key]

    def _widened(self, name: str, array: NDArray[np.float16]) -> int:
        """Add a float16 constant, and return the float32 tensor that an operator makes of it."""
        stored = self.constant(name, array)
        if stored not in self._wide:
            self._wide[stored] = self.tensor(f"{name}/float32", array.shape, "float32")
            self.operator("DEQUANTIZE", [stored], [self._wide[stored]], 2)
        return self._wide[stored]

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options: Any
    ) -> None:
        """Append an operator (a name of ``BuiltinOperator``); -1 stands for an input that is left out.

        ``options`` are the fields of the operator's table of options.
        """
        code = int(getattr(schema.BuiltinOperator, name))
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs, operator.outputs = (np.array(list(group), np.int32) for group in (inputs, outputs))
        table = _OPTIONS.get(name)
        if table:
            filled = getattr(schema, f"{table}T")()
            for key, value in options.items():
                if not hasattr(filled, key):
                    raise TypeError(f"{table} has no field {key}")
                setattr(filled, key, value)
            wide = hasattr(schema.BuiltinOptions2, table)
            kind = getattr(schema.BuiltinOptions2 if wide else schema.BuiltinOptions, table)
            if wide:
                operator.builtinOptions2Type, operator.builtinOptions2 = kind, filled
            else:
                operator.builtinOptionsType, operator.builtinOptions = kind, filled
        elif options:
            raise TypeError(f"{name} has no options")
        self.operators.append(operator)

    def metadata(self, name: str, content: bytes) -> None:
        """Add an entry of metadata."""
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(np.frombuffer(content, np.uint8))
        self._metadata.append(entry)

    def to_bytes(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """Pack the file, with one signature ``serving_default`` of the named inputs and outputs."""
        self._copy_reshaped(set(outputs.values()))
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = (np.array(list(ends.values()), np.int32) for ends in (inputs, outputs))
        model = schema.ModelT()
        model.version, model.description = _SCHEMA_VERSION, "xxdeploy"
        model.subgraphs, model.buffers, model.metadata = [graph], self._buffers, self._metadata
        model.operatorCodes = [_code(code, version) for code, version in self._codes]
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs, signature.outputs = _named(inputs), _named(outputs)
        model.signatureDefs = [signature]
        builder = flatbuffers.Builder(sum(0 if buffer.data is None else buffer.data.size for buffer in self._buffers))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _copy_reshaped(self, outputs: set[int]) -> None:
        """Let each RESHAPE of a tensor that is read again later work on a copy.

        LiteRT's own kernels give a RESHAPE the memory of its input, and let the next operator write its result there:
        ai-edge-litert 2.3.0 then computes other values for the later readers of the input.
        """
        last = {index: place for place, operator in enumerate(self.operators) for index in operator.inputs.tolist()}
        written, self.operators = self.operators, []
        reshape = self._codes.get((int(schema.BuiltinOperator.RESHAPE), 1))
        for place, operator in enumerate(written):
            x = int(operator.inputs[0])
            if operator.opcodeIndex == reshape and (x in outputs or last[x] > place):
                size = np.array([np.prod(self.tensors[x].shape, dtype=np.int32)])
                flat, copy = (self._like(x, f"{self.tensors[x].name}/{step}", size) for step in ("flat", "copy"))
                shape, begin = self.constant("shape", size), self.constant("begin", np.zeros(1, np.int32))
                self.operator("RESHAPE", [x, shape], [flat])
                self.operator("SLICE", [flat, begin, shape], [copy], 2)
                operator.inputs[0] = copy
            self.operators.append(operator)

    def _like(self, index: int, name: str, shape: NDArray[np.int32]) -> int:
        """Add a tensor of another shape, with the type and the quantization of tensor ``index``."""
        new = self.tensor(name, shape.tolist(), self.kind(index))
        self.tensors[new].quantization = self.tensors[index].quantization
        return new

    def _buffer(self, data: NDArray[np.uint8]) -> int:
        buffer = schema.BufferT()
        buffer.data = data
        self._buffers.append(buffer)
        return len(self._buffers) - 1


def tensors_in(flat: bytes) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Return the inputs and the outputs of a LiteRT file, in its order."""
    graph = schema.Model.GetRootAs(flat, 0).Subgraphs(0)
    kinds = {code: name for name, code in _TYPES.items()}

    def tensor(index: int) -> TensorInfo:
        held = graph.Tensors(index)
        return TensorInfo(held.Name().decode(), kinds[held.Type()], tuple(held.ShapeAsNumpy().tolist()))

    return [tensor(x) for x in graph.InputsAsNumpy()], [tensor(x) for x in graph.OutputsAsNumpy()]


def _quantization(given: Quantization | None) -> Any:
    if given is None:
        return None
    table = schema.QuantizationParametersT()
    table.scale, table.zeroPoint = np.array(given.scale, np.float32), np.array(given.zero_point, np.int64)
    table.quantizedDimension = given.axis
    return table


def _code(code: int, version: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.version = code, version
    entry.deprecatedBuiltinCode = min(code, _NEWEST_IN_ONE_BYTE)
    return entry


def _named(ends: Mapping[str, int]) -> list[Any]:
    maps = []
    for name, index in ends.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps


_OPTIONS = {
    "ADD": "AddOptions",
    "ARG_MAX": "ArgMaxOptions",
    "ARG_MIN": "ArgMinOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "CUMSUM": "CumsumOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MIRROR_PAD": "MirrorPadOptions",
    "MUL": "MulOptions",
    "ONE_HOT": "OneHotOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}
"""The table of options of each operator that has one."""
