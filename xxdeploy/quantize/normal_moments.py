"""Means and deviations of channels, carried through a graph from where batch normalisations know them.

Nagel et al. 2019, arXiv:1906.04721, section 4.2 and appendix C. A channel of mean ``m`` and deviation ``s``, taken as
normal, has after a Clip to ``a..b``, with ``u = (a - m) / s``, ``v = (b - m) / s``, density ``f`` and distribution
``F`` of the standard normal::

    E[x]   = m (F(v) - F(u)) + s (f(u) - f(v)) + a F(u) + b (1 - F(v))
    E[x^2] = (m^2 + s^2)(F(v) - F(u)) + s (m + a) f(u) - s (m + b) f(v) + a^2 F(u) + b^2 (1 - F(v))

Relu is ``a = 0``, ``b`` infinite. Sums are taken of what is independent: means add, and so do variances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xxdeploy.optional import extra
from xxdeploy.quantize.graph_view import GraphView, layer_name

with extra("export"):
    from onnx import NodeProto

Vector = NDArray[np.float64]
Moments = tuple[Vector, Vector]
"""Mean and standard deviation (channels,)."""

_KNOWN = frozenset({"Conv", "Gemm", "MatMul", "BatchNormalization"})
_KEEP = frozenset({"AveragePool", "GlobalAveragePool", "Identity"})
"""What keeps the mean. An average's deviation is smaller; it matters only to an activation behind it."""


def propagate(view: GraphView, statistics: Mapping[str, Moments]) -> dict[str, Moments]:
    """Return the moments of each tensor that ``statistics``, by layer name, tell something about."""
    found = _starts(view, statistics)
    for node in view.nodes:
        moments = None if node.output[0] in found else _through(view, node, found)
        if moments is not None:
            found[node.output[0]] = moments
    return found


def clipped(mean: Vector, deviation: Vector, low: float, high: float) -> Moments:
    """Return the moments of a normal value clipped to ``low..high``, which may be infinite."""
    spread = np.maximum(deviation, 1e-12)
    u, v = (low - mean) / spread, (high - mean) / spread
    inside = _below(v) - _below(u)
    first = mean * inside + spread * (_density(u) - _density(v))
    second = (mean**2 + spread**2) * inside
    for bound, edge, sign, share in ((low, u, 1, _below(u)), (high, v, -1, 1 - _below(v))):
        if math.isfinite(bound):
            first = first + bound * share
            second = second + bound**2 * share
            second = second + sign * spread * (mean + bound) * _density(edge)
    return first, np.sqrt(np.maximum(second - first**2, 0))


def _starts(view: GraphView, statistics: Mapping[str, Moments]) -> dict[str, Moments]:
    """Return the moments of the tensors that normalised layers write: a layer's last, if it has several."""
    last: dict[str, tuple[str, Moments]] = {}
    for node in view.nodes:
        layer = layer_name(node).rpartition("/")[0]
        if node.op_type in _KNOWN and layer in statistics:
            last[layer] = node.output[0], _widened(view, node, statistics[layer])
    return dict(last.values())


def _widened(view: GraphView, node: NodeProto, moments: Moments) -> Moments:
    """Add the channels that are always zero, which a layer got so as to have whole blocks of them."""
    weights, known = view.constants.get(node.input[1]), moments[0].size
    if node.op_type != "Conv" or weights is None or len(weights) <= known or weights[known:].any():
        return moments
    more = len(weights) - known
    return np.pad(moments[0], (0, more)), np.pad(moments[1], (0, more))


def _through(view: GraphView, node: NodeProto, found: Mapping[str, Moments]) -> Moments | None:
    """Return the moments behind a node, where those of all its operands are known and it does something simple."""
    operands = [found.get(name) for name in view.activations(node)]
    known = [each for each in operands if each is not None]
    if not known or len(known) < len(operands):
        return None
    mean, deviation = known[0]
    if node.op_type in _KEEP or (node.op_type == "Flatten" and _is_flat(view, node)):
        return mean, deviation
    if node.op_type == "Relu":
        return clipped(mean, deviation, 0, math.inf)
    if node.op_type == "Clip" and all(not name or name in view.constants for name in node.input[1:]):
        bounds = [float(view.constants[name]) if name else None for name in node.input[1:]] + [None, None]
        low, high = bounds[:2]
        return clipped(mean, deviation, -math.inf if low is None else low, math.inf if high is None else high)
    if node.op_type == "Add" and len(known) == 2 and known[0][0].size == known[1][0].size:
        return mean + known[1][0], np.hypot(deviation, known[1][1])
    if node.op_type == "Concat":
        return np.concatenate([each[0] for each in known]), np.concatenate([each[1] for each in known])
    return None


def _is_flat(view: GraphView, node: NodeProto) -> bool:
    """Tell whether a Flatten only drops axes of one: it stands behind a global pool."""
    source = view.producers.get(node.input[0])
    return source is not None and source.op_type == "GlobalAveragePool"


def _density(x: Vector) -> Vector:
    with np.errstate(over="ignore"):
        result: Vector = np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
    return result


def _below(x: Vector) -> Vector:
    return np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in x.tolist()])
