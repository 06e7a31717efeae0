"""Which layers INT8 makes slower on this machine, by measurement: those may stay in float.

ONNX Runtime's profiler tells what each layer takes in the INT8 graph and in the float one. That is a proposal only:
a float layer between integer ones has to be converted to and from, and what that costs shows when the whole graph is
timed. So each proposal is built, and raced in turns against what there was.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.artifacts import OnnxModel, OnProgress, Progress
from xxdeploy.optional import extra
from xxdeploy.pipeline.ladder import Climb, Goal, Judge, Rung
from xxdeploy.pipeline.prove import latency_samples
from xxdeploy.pipeline.workshop import Workshop
from xxdeploy.runtime.ort import OrtSession

with extra("export"):
    from xxdeploy.quantize.graph_view import GraphView, layer_name
    from xxdeploy.quantize.recipe import with_float_layers

RUNG = "float where faster"
GAIN = 0.98
"""A proposal is taken if the whole graph takes at most this much of its time; less is noise."""
_RUNS = 12
_NANOSECONDS = 1.3
"""What a value costs on its way between integers and float (dequantise, change of layout): only ranks proposals."""
_LAYERS = ("Conv", "Gemm", "MatMul")
_ACTIVATIONS = ("Relu", "Clip")
_RENAMED = re.compile(r"(_token_\d+|_nchwc)+$")
"""What ONNX Runtime puts behind a node's name when it fuses or moves it."""


@dataclass(frozen=True, slots=True)
class NodeCost:
    """Median milliseconds of a node in a profile, and the values that it reads and writes beside its weights."""

    milliseconds: float
    values: int


def node_costs(model: OnnxModel, batch: NDArray[Any]) -> dict[str, NodeCost]:
    """Profile ``model`` in ONNX Runtime, one thread, by the names of nodes; of nodes that were fused, the last one's.

    ``batch`` is its input, (n, height, width, channels).
    """
    with extra("export"):
        import onnxruntime as ort
    with tempfile.TemporaryDirectory(prefix="xxdeploy-") as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model.data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        name = session.get_inputs()[0].name
        for _ in range(_RUNS):
            session.run(None, {name: batch})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return costs_from(events)


def costs_from(events: Sequence[Mapping[str, Any]]) -> dict[str, NodeCost]:
    """Read the events of a profile."""
    times: dict[str, list[float]] = defaultdict(list)
    values: dict[str, int] = {}
    for event in events:
        if event.get("cat") != "Node" or not str(event.get("name")).endswith("_kernel_time"):
            continue
        name = _RENAMED.sub("", str(event["name"]).removesuffix("_kernel_time"))
        times[name].append(float(event["dur"]) / 1000)
        sizes = (event.get("args", {}).get(key, 0) for key in ("activation_size", "output_size"))
        values[name] = sum(int(size) for size in sizes) // 4
    return {name: NodeCost(statistics.median(each), values[name]) for name, each in times.items()}


def slower_layers(model: OnnxModel, floats: Mapping[str, NodeCost], ours: Mapping[str, NodeCost]) -> dict[str, float]:
    """Return the layers of the float ``model`` that take longer in integers, with milliseconds, the worst first.

    ``floats`` are its costs, ``ours`` those of the INT8 model made of it. Conversions are taken off.
    """
    view = GraphView.of(model)
    found: dict[str, float] = {}
    for node in view.nodes:
        if node.op_type not in _LAYERS:
            continue
        names, end = [layer_name(node), str(node.output[0])], node
        while (reader := view.only_consumer(end.output[0])) is not None and reader.op_type in _ACTIVATIONS:
            names += [layer_name(reader), str(reader.output[0])]
            end = reader
        here = [floats[name] for name in dict.fromkeys(names) if name in floats]  # of a fused node, either name
        there = ours.get(names[0])
        if here and there is not None:
            lost = there.milliseconds - sum(each.milliseconds for each in here)
            lost -= 1e-6 * _NANOSECONDS * max(each.values for each in here)
            if lost > 0:
                found[names[0]] = lost
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def proposals(lost: Mapping[str, float]) -> list[frozenset[str]]:
    """Return sets of layers to leave in float: all that lose, and those that make up most of the loss."""
    sets, total, taken = [], sum(lost.values()), 0.0
    for share in (0.6, 0.9, 1.0):
        chosen: list[str] = []
        taken = 0.0
        for name, milliseconds in lost.items():
            if taken >= share * total:
                break
            chosen.append(name)
            taken += milliseconds
        sets.append(frozenset(chosen))
    return list(dict.fromkeys(each for each in sets if each))


def leave_in_float(
    climbed: Climb, workshop: Workshop, judge: Judge, goal: Goal, batch: NDArray[np.float32], report: OnProgress
) -> Climb:
    """Put layers back to float where that makes the whole graph faster on this machine; one rung more either way.

    ``batch`` is a preprocessed image, (1, height, width, channels).
    """
    report(Progress(f"rung {RUNG}", 0, 1))
    began = time.perf_counter()
    source = workshop.float_model(climbed.recipe)
    lost = slower_layers(source, node_costs(source, batch), node_costs(climbed.model, batch))
    best, best_model, speed = None, climbed.model, GAIN
    for layers in proposals(lost):
        recipe = with_float_layers(climbed.recipe, layers)
        model = workshop.build(recipe)
        ratio, ours, floats = _race(model, climbed.model, source, batch)
        found = judge(model)
        better = ratio <= speed and (
            goal.holds(found) or not goal.is_broken(found) or goal.is_broken(climbed.comparison)
        )
        if best is None or better:
            best = Rung(RUNG, recipe, found, ours, floats, time.perf_counter() - began, better)
        if better:
            best_model, speed = model, ratio
    report(Progress(f"rung {RUNG}", 1, 1))
    rungs = climbed.rungs if best is None else (*climbed.rungs, best)
    if best is None or not best.taken:
        why = "no layer is" if best is None else "the whole graph is not"
        return replace(climbed, rungs=rungs, said=(f"{RUNG}: {why} faster in float on this machine",))
    names = [name for name in best.recipe.float_layers if name not in climbed.recipe.float_layers]
    said = f"{RUNG}: {', '.join(names)}; the whole graph takes {speed:.2f}x of its time"
    return replace(climbed, recipe=best.recipe, model=best_model, comparison=best.comparison, rungs=rungs, said=(said,))


def _race(
    model: OnnxModel, before: OnnxModel, source: OnnxModel, batch: NDArray[np.float32]
) -> tuple[float, float, float]:
    """Return the time of ``model`` as a share of ``before``'s, and the milliseconds of it and of the float model."""
    sessions = [OrtSession(each.data, threads=1) for each in (model, before, source)]
    rounds = [latency_samples(sessions, batch, lambda _: None) for _ in range(2)]
    ours, theirs, floats = (rounds[0][index] + rounds[1][index] for index in range(3))
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return ratio, statistics.median(ours), statistics.median(floats)
