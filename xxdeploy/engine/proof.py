"""Proof of precision: the multiplications of the parsed network by data type.

A strongly typed network holds to the types of its graph, so the types at a layer's inputs decide which kernel is built:
INT8 where data and weights both come out of a Dequantize of INT8, FP16 where both are FP16 tensors. That can be read on
any machine. The second depth, the layers of the built engine by data type, needs a GPU: :func:`inspect_engine`.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xxdeploy.engine.library import ParsedNetwork, driver_problem, load_library
from xxdeploy.engine.options import Engine
from xxdeploy.errors import EngineError

LEAST = 0.9
"""Share of the work that must be in the precision that was asked for."""

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
PLAN_BYTES, LAYER_BYTES = 1 << 20, 192 << 10
"""Bytes of a plan in addition to its weights: fixed, and for the kernels of each layer (130 kB were measured)."""
_WORK = ("conv", "gemm", "matmul", "matrixmultiply", "fullyconnected", "cask")
_WRITTEN = {"int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32"}
_NAMES = {"FLOAT": "fp32", "HALF": "fp16", "INT8": "int8", "BF16": "bf16", "FP8": "fp8", "INT32": "int32"}


@dataclass(frozen=True, slots=True)
class Work:
    """One convolution or matrix product: ``name`` as in the ONNX, multiplications for one image, and its weights.

    ``data`` and ``kernel`` are the types in which its two operands are computed: ``int8`` if dequantized from INT8.
    ``weights`` counts the constant ones, 0 for a product of activations.
    """

    name: str
    kind: str
    macs: int
    weights: int
    data: str
    kernel: str

    @property
    def precision(self) -> str:
        """What it is computed in; ``mixed`` where the operands differ."""
        return self.data if self.data == self.kernel else "mixed"


@dataclass(frozen=True, slots=True)
class PrecisionProof:
    """The work of a network by precision."""

    works: tuple[Work, ...]

    @property
    def macs(self) -> int:
        """Multiplications for one image."""
        return sum(work.macs for work in self.works)

    def share(self, precision: str) -> float:
        """Return the share (0..1) of the multiplications in ``precision``."""
        return sum(work.macs for work in self.works if work.precision == precision) / max(self.macs, 1)

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of each precision that occurs, largest first."""
        shares = {work.precision: self.share(work.precision) for work in self.works}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of all counted layers, in the types of the graph."""
        return sum(work.weights * BYTES.get(work.kernel, 4) for work in self.works)

    @property
    def float_bytes(self) -> int:
        """Bytes of the same weights in float32."""
        return sum(work.weights * 4 for work in self.works)


def prove_precision(parsed: ParsedNetwork) -> PrecisionProof:
    """Count the work of every convolution and matrix product of ``parsed`` by the types of its operands."""
    trt, network = parsed.library.module, parsed.network
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    writer = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    works = []
    for layer in layers:
        kind = layer.type
        if kind in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION):
            works.append(_convolution(trt, layer, writer))
        elif kind == trt.LayerType.MATRIX_MULTIPLY:
            works.append(_product(trt, layer, writer))
    return PrecisionProof(tuple(works))


def check_precision(proof: PrecisionProof, asked: str) -> None:
    """Raise ``EngineError`` ``engine-precision`` unless at least 90 % of the work is in the precision ``asked``."""
    share = proof.share(asked)
    if proof.macs and share >= LEAST:
        return
    others = sorted((work for work in proof.works if work.precision != asked), key=lambda work: -work.macs)
    named = ", ".join(f"{work.name} ({work.precision})" for work in others[:3]) or "no layer computes anything"
    raise EngineError(
        f"only {100 * share:.1f} % of the work is {asked}, less than {100 * LEAST:.0f} %: {named}",
        hint="the graph decides: quantize or cast these layers, or ask for the precision that it has",
        code="engine-precision",
    )


def check_size(proof: PrecisionProof, size: int, asked: str) -> None:
    """Raise ``EngineError`` ``engine-precision`` if a plan of ``size`` bytes has room for the weights in float32.

    Where the kernels are larger than the savings of INT8 (NASNetMobile) that proves nothing.
    """
    overhead = PLAN_BYTES + LAYER_BYTES * len(proof.works)
    if asked == "fp32" or size <= overhead + (proof.weight_bytes + proof.float_bytes) / 2:
        return
    raise EngineError(
        f"the engine has {size / 1e6:.1f} MB, its weights in {asked} only {proof.weight_bytes / 1e6:.1f} MB: "
        "they were not kept in that type",
        hint="try another version of the library, and report this",
        code="engine-precision",
    )


def _convolution(trt: Any, layer: Any, writer: Mapping[str, Any]) -> Work:
    kind = "Conv" if layer.type == trt.LayerType.CONVOLUTION else "ConvTranspose"
    layer.__class__ = trt.IConvolutionLayer if kind == "Conv" else trt.IDeconvolutionLayer
    taps = math.prod(layer.kernel_size_nd)
    given, made = layer.get_input(0), layer.get_output(0)
    counted, channels = (made, given.shape[1]) if kind == "Conv" else (given, made.shape[1])
    macs = _volume(counted) * taps * channels // layer.num_groups
    if layer.num_inputs > 1 and layer.get_input(1) is not None:
        kernel = _computed_in(trt, layer.get_input(1), writer)
    else:
        kernel = {"float32": "fp32", "float16": "fp16", "int8": "int8"}.get(str(layer.kernel.dtype), "other")
    weights = taps * given.shape[1] * layer.num_output_maps // layer.num_groups
    return Work(_name(layer), kind, macs, weights, _computed_in(trt, given, writer), kernel)


def _product(trt: Any, layer: Any, writer: Mapping[str, Any]) -> Work:
    layer.__class__ = trt.IMatrixMultiplyLayer
    left, right = layer.get_input(0), layer.get_input(1)
    inner = left.shape[-2 if layer.op0 == trt.MatrixOperation.TRANSPOSE else -1]
    weights = sum(_volume(operand) for operand in (left, right) if _is_constant(operand, writer))
    data, kernel = (_computed_in(trt, operand, writer) for operand in (left, right))
    return Work(_name(layer), "MatMul", _volume(layer.get_output(0)) * max(inner, 1), weights, data, kernel)


def _computed_in(trt: Any, tensor: Any, writer: Mapping[str, Any]) -> str:
    """Return the type of an operand, seen through layers that only move values; ``int8`` if dequantized from INT8."""
    layer = writer.get(tensor.name)
    while layer is not None and layer.type == trt.LayerType.SHUFFLE:
        layer = writer.get(layer.get_input(0).name)
    if layer is not None and layer.type == trt.LayerType.DEQUANTIZE:
        return _NAMES.get(layer.get_input(0).dtype.name, "other")
    return _NAMES.get(tensor.dtype.name, "other")


def _is_constant(tensor: Any, writer: Mapping[str, Any]) -> bool:
    """Tell whether only constants lead to ``tensor``."""
    todo = [tensor]
    while todo:
        layer = writer.get(todo.pop().name)
        if layer is None:
            return False
        todo += [layer.get_input(i) for i in range(layer.num_inputs) if layer.get_input(i) is not None]
    return True


def _volume(tensor: Any) -> int:
    """Return the number of values for one image: the only free axis is the batch."""
    return math.prod(max(size, 1) for size in tensor.shape)


def _name(layer: Any) -> str:
    """Return the ONNX node that a layer was made from."""
    text = str(getattr(layer, "metadata", "") or "")
    inside = text.removeprefix("[ONNX Layer: ").removesuffix("]")
    return inside if inside and inside != text else str(layer.name)


@dataclass(frozen=True, slots=True)
class Inspection:
    """Layers of an engine that convolve or multiply, counted by the type of their inputs; ``layers`` counts all."""

    layers: int
    by_type: Mapping[str, int]

    def share(self, precision: str) -> float:
        """Return the share (0..1) of those layers in ``precision``."""
        return self.by_type.get(precision, 0) / max(sum(self.by_type.values()), 1)


def inspect_engine(engine: Engine) -> Inspection | None:
    """Load ``engine`` and read its layers; None where no driver is there to load it.

    ``EngineError`` ``engine-load``: it was built for another card or version.
    """
    library = load_library(engine.options.target)
    if driver_problem(library) is not None:
        return None
    trt = library.module
    logger = library.logger()
    runtime = trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine.plan)
    if loaded is None:
        raise EngineError(
            f"{library.target} {library.version} cannot load the engine that it built: {'; '.join(logger.errors[:1])}",
            hint="name this machine's card with --gpu",
            code="engine-load",
        )
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return read_inspection(text)


def read_inspection(text: str) -> Inspection:
    """Count the layers in the JSON of ``IEngineInspector`` (verbosity DETAILED), else ``engine-inspector``."""
    try:
        layers: list[Any] = json.loads(text)["Layers"]
        if not isinstance(layers, list):
            raise TypeError("Layers is no list")
        counted = Counter(kind for layer in layers if isinstance(layer, dict) and (kind := _read_type(layer)))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"the engine inspector's answer cannot be read: {error}",
            hint="report this with the library's version",
            code="engine-inspector",
        ) from error
    return Inspection(len(layers), dict(counted))


def _read_type(layer: Mapping[str, Any]) -> str | None:
    """Return the type that a working layer reads; None for another layer, ``other`` for a type of no name here."""
    names = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')} {layer.get('TacticName', '')}".lower()
    inputs = layer.get("Inputs") or []
    if not any(word in names for word in _WORK) or not inputs:
        return None
    words = str(inputs[0].get("Format/Datatype", "")).lower().replace("-", " ").split()
    return next((_WRITTEN[word] for word in words if word in _WRITTEN), "other")
