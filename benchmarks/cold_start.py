"""Cold start: import, load and the first result from a JPEG, compared with bare onnxruntime on the same file.

Each start is a fresh process, and the two kinds alternate. Processor time is that of the whole process (user and
system), memory its peak (VmHWM). The parts of the difference are timed inside further processes.

    python benchmarks/cold_start.py BUNDLE [--image FILE.jpg] [--starts 15] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import xxdeploy
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.session import batch_for

# What ends each process: processor seconds, peak memory in bytes, and the answer, which must be the same for all.
_END = """
import resource, json
peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"processor": used.ru_utime + used.ru_stime, "memory": peak, "answer": answer, "parts": parts}))
"""
_BARE = """
import sys
model, image, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
answer = int(session.run(None, {session.get_inputs()[0].name: numpy.load(image)})[0].argmax())
parts = {}
"""
_OURS = """
import sys
bundle, image, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
from xxdeploy.runtime import load
answer = load(bundle, threads=threads or None, tuning="off" if threads else "stored").predict(image, top=1)[0].index
parts = {}
"""
_PARTS = """
import sys, time
bundle, image, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
parts, last = {}, time.process_time()
def mark(name):
    global last
    now = time.process_time()
    parts[name] = now - last
    last = now
import numpy
mark("import numpy")
from xxdeploy.runtime import load
mark("import xxdeploy.runtime (pillow, json, hashlib)")
import onnxruntime
mark("import onnxruntime")
from xxdeploy.runtime.bundle.files import open_signed, read_entry, check_entry
from xxdeploy.runtime.predictor import pick_variant, cpu_features
root, manifest, _ = open_signed(bundle, None)
variant = pick_variant(manifest, cpu_features())
mark("read the manifest, pick the variant")
total = sum(entry.size for entry in manifest.files)
for entry in manifest.files:
    if entry.path == variant.model:
        model = read_entry(root, entry, total=total)
    else:
        check_entry(root, entry, total=total)
mark("read and hash every file")
from xxdeploy.runtime.engines.ort import OrtSession
session = OrtSession(model, threads=threads or None)
mark("session")
from xxdeploy.runtime.engines.session import batch_for
batch = batch_for(session, manifest.preprocess, manifest.preprocess.pixels([image]))
mark("decode, resize, normalize")
answer = int(session.run(batch).argmax())
mark("first inference")
"""


def start(code: str, *arguments: str) -> dict[str, Any]:
    """Run one process, and return its figures."""
    home = str(Path(xxdeploy.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + _END, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(bundle: Path, image: Path, starts: int, threads: int) -> dict[str, Any]:
    """Return medians of processor seconds and bytes for each kind of start, and of the parts in seconds."""
    runtime = load(bundle, tuning="off")
    with tempfile.TemporaryDirectory() as folder:
        batch = Path(folder) / "batch.npy"
        np.save(batch, batch_for(runtime.session, runtime.manifest.picture, runtime.manifest.picture.pixels([image])))
        model = str(runtime.root / runtime.variant.model)
        subjects = {
            "bare onnxruntime": (_BARE, model, str(batch), str(threads)),
            "xxdeploy": (_OURS, str(bundle), str(image), str(threads)),
            "parts": (_PARTS, str(bundle), str(image), str(threads)),
        }
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in subjects}
        for _ in range(starts):
            for name, arguments in subjects.items():
                found[name].append(start(*arguments))
    answers = {each["answer"] for runs in found.values() for each in runs}
    if len(answers) != 1:
        raise SystemExit(f"the subjects give different classes: {sorted(answers)}")

    def median(name: str, key: str) -> float:
        return float(statistics.median(each[key] for each in found[name]))

    rows = {
        name: {"processor": median(name, "processor"), "memory": median(name, "memory")}
        for name in ("bare onnxruntime", "xxdeploy")
    }
    pairs = zip(found["xxdeploy"], found["bare onnxruntime"], strict=True)
    parts = {
        key: statistics.median(each["parts"][key] for each in found["parts"]) for key in found["parts"][0]["parts"]
    }
    return {
        "subjects": rows,
        "extra_processor": statistics.median(ours["processor"] - bare["processor"] for ours, bare in pairs),
        "extra_memory": rows["xxdeploy"]["memory"] - rows["bare onnxruntime"]["memory"],
        "parts": parts,
    }


def warm(bundle: Path, image: Path, threads: int, rounds: int = 200) -> dict[str, float]:
    """Return milliseconds of a warm result from the JPEG, of the engine alone, and of the parts between, interleaved.

    The minimum of many rounds counts, since the other rounds include the time of other processes.
    """
    runtime = load(bundle, threads=threads or None, tuning="off" if threads else "stored")
    preprocess = runtime.manifest.picture
    pixels = preprocess.image(image)
    batch = batch_for(runtime.session, preprocess, pixels[None])
    steps: dict[str, Callable[[], object]] = {
        "JPEG to label": lambda: runtime.predict(image),
        "engine alone": lambda: runtime.session.run(batch),
        "decode and resize": lambda: preprocess.image(image),
        "normalise": lambda: batch_for(runtime.session, preprocess, pixels[None]),
    }
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    return best


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--image", type=Path, help="a JPEG; by default a synthetic one of 500 x 375")
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument(
        "--threads", type=int, default=1, help="0: the engine's default, or the stored choice of `tune`"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = given.image
        if image is None:
            image = Path(folder) / "image.jpg"
            noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(image, quality=90)
        found = measure(given.bundle, image, given.starts, given.threads)
        found["warm"] = warm(given.bundle, image, given.threads)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, row in found["subjects"].items():
        print(f"{name:18} {row['processor']:.3f} s of processor time, {row['memory'] / 1e6:.1f} MB")
    print(f"{'difference':18} {found['extra_processor']:.3f} s, {found['extra_memory'] / 1e6:.1f} MB\n")
    for name, seconds in found["parts"].items():
        print(f"  {name:48} {1e3 * seconds:6.1f} ms")
    print("\nwarm:")
    for name, milliseconds in found["warm"].items():
        print(f"  {name:48} {milliseconds:6.2f} ms")
    ratio = found["warm"]["JPEG to label"] / found["warm"]["engine alone"]
    print(f"  {'JPEG to label divided by engine alone':48} {ratio:6.2f}x")


if __name__ == "__main__":
    main()
