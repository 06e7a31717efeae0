"""Time from a JPEG to a label under each way to bring a picture to size, against the bare inference.

    python benchmarks/resample.py exports/mobilenetv2-fp32 cat.jpg

All are timed in turn, round after round, so that other load on the machine meets all alike. The ratio is the median of
(JPEG to label) / (inference) over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.manifest import SCHEMA, schema_for
from xxdeploy.runtime.engines.session import batch_for
from xxdeploy.runtime.image.resample import RESAMPLES
from xxdeploy.runtime.image.sizing import Sizing

SIZINGS = [
    *(Sizing(resample=name) for name in RESAMPLES),
    Sizing("crop"),
    Sizing("crop", "bilinear", 1.0),
    Sizing("fit", "lanczos-antialias"),
    Sizing("pad", "bilinear"),
]


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Time each way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    runtime = load(given.bundle, threads=given.threads, tuning="off")
    preprocess = runtime.manifest.picture
    batch = batch_for(runtime.session, preprocess, preprocess.pixels([given.picture]))
    pipelines: dict[str, Callable[[], object]] = {"inference": lambda: runtime.session.run(batch)}
    for sizing in SIZINGS:
        how = replace(preprocess, sizing=sizing)
        lowest = schema_for(how, runtime.manifest.more_outputs)
        schema = SCHEMA if runtime.manifest.schema == SCHEMA else lowest
        other = replace(runtime, manifest=replace(runtime.manifest, preprocess=how, schema=schema))
        pipelines[str(sizing)] = partial(other.predict, given.picture)
    rounds = [{name: seconds(work) for name, work in pipelines.items()} for _ in range(given.rounds + 5)][5:]
    bare = min(each["inference"] for each in rounds) * 1e3
    print(f"inference {bare:.1f} ms at best, {given.picture.name}, {given.threads} thread(s), {given.rounds} rounds")
    print("| pictures | JPEG to label, ms at best | ratio to inference, median | at best |")
    print("| --- | --- | --- | --- |")
    for name in list(pipelines)[1:]:
        ratio = statistics.median(each[name] / each["inference"] for each in rounds)
        best = min(each[name] for each in rounds) * 1e3
        print(f"| {name} | {best:.1f} | {ratio:.2f} | {best / bare:.2f} |")


if __name__ == "__main__":
    main()
