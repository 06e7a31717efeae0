"""Compare xxdeploy with its fast peers on many networks: one thread, INT8 and bf16 only, one line a network.

    python benchmarks/peers_quick.py NETWORK[=none|FILE]... --calibration IMAGES [--rounds 12]

Subjects, files and rounds are those of ``peers.py``. A line has the best peer, xxdeploy in both engines, and the ratio
of xxdeploy's better engine to the best peer: of medians, and of the fastest rounds, since on a shared machine other
processes affect the median.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import peers_make as make
from peers import SUBJECTS, Worker, prepare, take_turns

from xxdeploy.datasets import open_images
from xxdeploy.runtime.image.resample import rounded

RIVALS = ("ONNX Runtime INT8, stock", "OpenVINO bf16", "OpenVINO INT8, NNCF", "LiteRT INT8")
OURS = ("xxdeploy, onnxruntime", "xxdeploy, OpenVINO")


def line(network: str, times: dict[str, list[float]]) -> str:
    """Return a row of a Markdown table."""
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    least = {name: 1e3 * min(values) for name, values in times.items()}
    rivals, ours = ([name for name in group if name in times] for group in (RIVALS, OURS))
    best = min(rivals, key=medians.__getitem__)
    ratios = [min(each[name] for name in ours) / min(each[name] for name in rivals) for each in (medians, least)]
    own = " | ".join(f"{medians[name]:.2f}" if name in medians else "-" for name in OURS)
    return f"| {network} | {best} | {medians[best]:.2f} | {own} | {ratios[0]:.2f}x | {ratios[1]:.2f}x |"


def main() -> None:
    """Make the missing files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--work", type=Path, default=Path("exports/peers"))
    given = parser.parse_args()
    print("| network | best peer | peer, ms | xxdeploy, onnxruntime | xxdeploy, OpenVINO | medians | fastest rounds |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for asked in given.networks:
        network, _, weights = asked.partition("=")
        folder = given.work / network
        preprocess, problems = prepare(network, weights or "imagenet", folder, given)
        stored = folder / "images.npy"
        np.save(
            stored,
            np.stack([rounded(preprocess.image(each)) for each in open_images(given.calibration).sample(1).files]),
        )
        workers: dict[str, Worker] = {}
        for each in SUBJECTS:
            if each.name not in (*RIVALS, *OURS) or each.file in problems or not make.has(*each.needs):
                continue
            try:
                workers[each.name] = Worker(each, folder, stored, 1, preprocess.mode)
            except RuntimeError as error:
                make.note(f"{network}: {each.name}: {error}")
        print(line(network, take_turns(workers, given.rounds)), flush=True)
        for worker in workers.values():
            worker.close()


if __name__ == "__main__":
    main()
