"""Show where the time of an ONNX file goes, and which of several files is faster.

Latency comes first: the runs of all files are interleaved, one thread and one image, so other load affects all of
them. The best run of each round counts. Milliseconds and the ratio to the first file are medians over the rounds, with
the 10th and 90th percentile of the ratio, and the best of all. Then ONNX Runtime's profiler measures milliseconds by
operator, after ONNX Runtime's own fusions (`--nodes` lists the slowest nodes).

    python benchmarks/profile_graph.py BEFORE.onnx AFTER.onnx [--rounds 30] [--nodes 10] [--no-profile]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_KINDS = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
RUNS_A_ROUND = 6


def session(path: Path, profile: str | None = None) -> ort.InferenceSession:
    """Load a file as a user would, with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feed(runner: ort.InferenceSession) -> dict[str, NDArray[np.generic]]:
    """Return a random image of the input's shape and type."""
    source = runner.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in source.shape]
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    kind = _KINDS[source.type]
    return {source.name: pixels.astype(np.uint8) if kind is np.uint8 else (pixels / 127.5 - 1).astype(np.float32)}


def race(paths: list[Path], rounds: int) -> list[list[float]]:
    """Return the best milliseconds of each round, for each file."""
    runners = [session(path) for path in paths]
    feeds = [feed(runner) for runner in runners]
    times: list[list[float]] = [[] for _ in paths]
    for turn in range(rounds + 2):
        best = [float("inf")] * len(paths)
        for _ in range(RUNS_A_ROUND):
            for index, (runner, given) in enumerate(zip(runners, feeds, strict=True)):
                start = time.perf_counter()
                runner.run(None, given)
                best[index] = min(best[index], time.perf_counter() - start)
        if turn >= 2:  # the first rounds warm up
            for found, seconds in zip(times, best, strict=True):
                found.append(1000 * seconds)
    return times


def profile(path: Path, runs: int) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """Return milliseconds a run by (operator, node), and the number of nodes of each operator."""
    with tempfile.TemporaryDirectory() as folder:
        runner = session(path, str(Path(folder) / "trace"))
        given = feed(runner)
        for _ in range(runs):
            runner.run(None, given)
        events = json.loads(Path(runner.end_profiling()).read_text())
    spent: Counter[tuple[str, str]] = Counter()
    samples: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["args"]["op_name"], event["name"].removesuffix("_kernel_time")
            samples.setdefault(key, []).append(event["dur"] / 1000)
    for key, values in samples.items():
        spent[key] = statistics.median(values)  # type: ignore[assignment]  # a Counter sums floats as well
    return spent, Counter(key[0] for key in spent)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="list the N slowest nodes of each file")
    parser.add_argument("--no-profile", action="store_true")
    asked = parser.parse_args()
    times = race(asked.files, asked.rounds)
    for path, found in zip(asked.files, times, strict=True):
        ratios = sorted(own / first for own, first in zip(found, times[0], strict=True))
        low, middle, high = (ratios[len(ratios) * share // 100] for share in (10, 50, 90))
        ratio = f"x {middle:.3f} ({low:.3f}-{high:.3f})"
        print(f"{path.name:44}{statistics.median(found):8.2f} ms  {ratio}  best {min(found):.2f}")
    if asked.no_profile:
        return
    profiles = [profile(path, asked.rounds) for path in asked.files]
    kinds: Counter[str] = Counter()
    for spent, _ in profiles:
        for (kind, _node), milliseconds in spent.items():
            kinds[kind] += milliseconds
    print(f"\n{'ms by operator (nodes)':28}" + "".join(f"{path.stem[-20:]:>22}" for path in asked.files))
    for kind, _ in kinds.most_common():
        cells = ""
        for spent, counts in profiles:
            total = sum(value for key, value in spent.items() if key[0] == kind)
            cells += f"{total:14.2f} ({counts[kind]:4})  " if counts[kind] else " " * 22
        print(f"{kind:28}{cells}")
    print(
        f"{'sum':28}"
        + "".join(f"{sum(spent.values()):14.2f} ({sum(counts.values()):4})  " for spent, counts in profiles)
    )
    for path, (spent, _) in zip(asked.files, profiles, strict=True) if asked.nodes else ():
        print(f"\nslowest nodes of {path.name}")
        for (kind, node), milliseconds in spent.most_common(asked.nodes):
            print(f"{milliseconds:9.3f}  {kind:20} {node}")


if __name__ == "__main__":
    main()
