"""Jobs, a bundle to copy, and the command that stands in for an export."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from xxdeploy.batch.jobs import Job
from xxdeploy.batch.process import Ended
from xxdeploy.batch.run import Resources, execute_here

CHILD = Path(__file__).with_name("job_child.py")
RESOURCES = Resources(parallel=2, memory=8_000_000_000, timeout=60)


def job(name: str, way: str = "", **options: Any) -> Job:
    return Job(name, "lenet", "fp32", {"weights": "none", **({"labels": way} if way else {}), **options})


def manifest(**changes: Any) -> dict[str, Any]:
    """As much of a manifest as a card looks at."""
    parity = {
        "reference": "keras", "candidate": "onnx-fp32", "images": 9, "max_abs": 1.3e-7, "mean_abs": 1e-9,
        "max_rel": 2.1e-7, "cosine": 1.0, "agreement": 1.0,
    }  # fmt: skip
    return {
        "task": "classification",
        "source": {"weights": "none", "options": {"seed": 0}},
        "evidence": {"parity": [{**parity, "candidate": "onnx-fp32, unoptimized", "max_abs": 2.6e-7}, parity]},
        "files": [{"path": "model.onnx", "size": 100}],
        "variants": [{"name": "fp32", "model": "model.onnx", "scheme": "float32"}],
        **changes,
    }


def make_template(folder: Path, **changes: Any) -> Path:
    """Write a bundle's manifest and a model of two nodes."""
    folder.mkdir(parents=True)
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("a", "c")]
    nodes = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("QuantizeLinear", ["b", "s"], ["c"])]
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [1.0])
    graph = helper.make_graph(nodes, "g", floats[:1], floats[1:], [scale])
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx.load(folder / "model.onnx").graph.node
    (folder / "manifest.json").write_text(json.dumps(manifest(**changes)))
    return folder


@dataclass
class FakeExports:
    """An executor on this machine whose exports are copies; ``calls`` are the bundles asked for, with their process."""

    root: Path
    template: Path = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.template = make_template(self.root / "template")
        self.log = self.root / "calls"

    @property
    def command(self) -> tuple[str, ...]:
        return "-S", str(CHILD), str(self.template), str(self.log)

    @property
    def calls(self) -> list[str]:
        return [line.split()[0] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def processes(self) -> list[int]:
        return [int(line.split()[1]) for line in self.log.read_text().splitlines()]

    def __call__(self, jobs: Sequence[Job], out: Path, logs: Path, resources: Resources) -> Iterator[tuple[Job, Ended]]:
        """Run the jobs here."""
        return execute_here(jobs, out, logs, resources, self.command)
