"""Count the instructions that ARM processors execute for one inference, under qemu, in one thread.

    python scripts/qemu_arm.py prepare ARM
    python benchmarks/arm_instructions.py stock mobilenetv2 stock.tflite --calibration IMAGES
    python benchmarks/arm_instructions.py count ARM mobilenetv2:stock=stock.tflite mobilenetv2:ours=model-arm.onnx \
        [--cpus cortex-a53 cortex-a72 cortex-a76 max] [--runs 2 6] [--out counts.json]
    python benchmarks/arm_instructions.py check counts.json --against before.json [--within 0.02]

A process marks the end of its second and of its sixth inference; a count is the difference of the two, over 4. It does
not depend on the load of the machine: counted twice, a file differs by less than 0.1 %. Instructions are not
milliseconds: processors execute different ones at different speeds, and wait for memory. `check` exits with 1 if a
count is more than 2 % above the earlier one. `stock` makes TensorFlow Lite's own INT8 file. ARM is the folder of
scripts/qemu_arm.py; the files are .onnx or .tflite, of one picture. A count takes about ten seconds, and the plugin a
C compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = Path(__file__).with_name("count_instructions.c")
CPUS = ("cortex-a53", "cortex-a72", "cortex-a76", "max")
NETWORKS = {"mobilenet": "MobileNet", "mobilenetv2": "MobileNetV2", "nasnetmobile": "NASNetMobile"}
LIMIT_S = 1800
Counts: TypeAlias = dict[str, dict[str, float]]
"""Instructions of one inference, by ``NETWORK:FILE`` and processor."""


def infer(model: str, marked: Sequence[int]) -> None:
    """Run inferences of one random picture, and mark those of these numbers; this is what runs on ARM."""
    run = _runner(model)
    for number in range(1, max(marked) + 1):
        run()
        if number in marked:
            os.getsid(0)  # the plugin notes the count


def _runner(model: str) -> Callable[[], object]:
    """Return what runs one inference."""
    random = np.random.default_rng(0)
    if model.endswith(".tflite"):
        from ai_edge_litert.interpreter import Interpreter

        interpreter: Any = Interpreter(model_path=model, num_threads=1)
        interpreter.allocate_tensors()
        told = interpreter.get_input_details()[0]
        interpreter.set_tensor(told["index"], random.integers(0, 128, told["shape"]).astype(told["dtype"]))
        return cast("Callable[[], object]", interpreter.invoke)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    dtype = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[first.type]
    picture = random.integers(0, 128, (1, *first.shape[1:])).astype(dtype)
    return lambda: session.run(None, {first.name: picture})


def build_plugin(folder: Path) -> Path:
    """Compile the plugin that counts."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("error: there is no C compiler\n hint: on Debian: apt-get install gcc")
    plugin = folder / "count.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(PLUGIN), "-o", str(plugin)], check=True)
    return plugin


def between(arm: Path, plugin: Path, cpu: str, model: Path, runs: tuple[int, int]) -> float:
    """Return the instructions of one inference: the mean of those after the first number of ``runs``."""
    from qemu_arm import arm_python

    out = plugin.with_name("marks.txt")
    out.unlink(missing_ok=True)
    words, environment = arm_python(arm, ("-cpu", cpu, "-plugin", f"{plugin},out={out}"))
    command = [*words, __file__, "infer", str(model.resolve()), *map(str, runs)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=LIMIT_S)
    marks = [int(line) for line in out.read_text().split()] if out.is_file() else []
    if done.returncode or len(marks) != 2:
        raise SystemExit(f"error: {model} on {cpu} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return (marks[1] - marks[0]) / (runs[1] - runs[0])


def count(
    arm: Path, files: Mapping[str, Path], cpus: Sequence[str], runs: tuple[int, int], out: Path | None = None
) -> Counts:
    """Return the instructions of one inference of each file on each processor; add each file's to ``out``."""
    counts: Counts = {}
    with tempfile.TemporaryDirectory() as folder:
        plugin = build_plugin(Path(folder))
        for name, model in files.items():
            counts[name] = {}
            for cpu in cpus:
                counts[name][cpu] = between(arm, plugin, cpu, model, runs)
                print(f"{name} on {cpu}: {counts[name][cpu] / 1e6:.2f} million", file=sys.stderr, flush=True)
            if out is not None:
                kept: Counts = json.loads(out.read_text()) if out.is_file() else {}
                kept[name] = kept.get(name, {}) | counts[name]
                out.write_text(json.dumps(kept, indent=1) + "\n")
    return counts


def table(counts: Counts) -> str:
    """Return the counts in millions as a table of Markdown."""
    cpus = list(dict.fromkeys(cpu for row in counts.values() for cpu in row))
    rows = [f"| network | file | {' | '.join(cpus)} |", f"| --- | --- |{' --- |' * len(cpus)}"]
    for name, row in counts.items():
        network, _, file = name.partition(":")
        shown = [f"{row[cpu] / 1e6:.1f}" if cpu in row else "-" for cpu in cpus]
        rows.append(f"| {network} | {file} | {' | '.join(shown)} |")
    return "\n".join(rows)


def grown(counts: Counts, earlier: Counts, within: float) -> list[str]:
    """Return a line for each count that is more than ``within`` (a share) above the earlier one, or is not there."""
    lines = []
    for name, row in earlier.items():
        for cpu, before in row.items():
            now = counts.get(name, {}).get(cpu)
            if now is None:
                lines.append(f"{name} on {cpu} was not counted")
            elif now > before * (1 + within):
                lines.append(
                    f"{name} on {cpu}: {now / 1e6:.1f} million, before {before / 1e6:.1f} ({now / before:.3f}x)"
                )
    return lines


def make_stock(network: str, out: Path, calibration: Path) -> None:
    """Write TensorFlow Lite's INT8 file of a network, calibrated with at most 60 images."""
    import keras
    import peers_make
    from PIL import Image
    from qemu_run import find_images

    model = getattr(keras.applications, NETWORKS[network])(weights=None if network == "nasnetmobile" else "imagenet")
    size = model.input_shape[1:3]
    pictures = (np.asarray(Image.open(path).convert("RGB").resize(size)) for path in find_images(calibration, 60))
    peers_make.litert(model, [(each / 127.5 - 1).astype(np.float32)[None] for each in pictures], out)


def _file(text: str) -> tuple[str, Path]:
    name, found, path = text.partition("=")
    if not found or ":" not in name or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not NETWORK:FILE=PATH of an existing file")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    stock = commands.add_parser("stock", help="make TensorFlow Lite's INT8 file")
    stock.add_argument("network", choices=sorted(NETWORKS))
    stock.add_argument("out", type=Path)
    stock.add_argument("--calibration", type=Path, required=True, help="folder of images")
    counting = commands.add_parser("count", help="count the instructions of model files")
    counting.add_argument("arm", type=Path, help="folder of scripts/qemu_arm.py")
    counting.add_argument("files", type=_file, nargs="+", metavar="NETWORK:FILE=PATH")
    counting.add_argument("--cpus", nargs="+", default=list(CPUS), help=f"default: {' '.join(CPUS)}")
    counting.add_argument("--runs", type=int, nargs=2, default=(2, 6), help="inferences before the two marks")
    counting.add_argument("--out", type=Path, help="JSON file to add the counts to")
    checking = commands.add_parser("check", help="compare two files of counts")
    checking.add_argument("counts", type=Path)
    checking.add_argument("--against", type=Path, required=True)
    checking.add_argument("--within", type=float, default=0.02, help="share by which a count may grow (default 0.02)")
    inner = commands.add_parser("infer", help="what runs on ARM")
    inner.add_argument("model")
    inner.add_argument("marked", type=int, nargs=2)
    return parser


def main() -> int:
    """Parse the command line and run."""
    asked = _parser().parse_args()
    if asked.command == "infer":
        infer(asked.model, asked.marked)
        return 0
    sys.path.insert(0, str(ROOT / "scripts"))
    if asked.command == "stock":
        make_stock(asked.network, asked.out, asked.calibration)
        return 0
    if asked.command == "check":
        lines = grown(json.loads(asked.counts.read_text()), json.loads(asked.against.read_text()), asked.within)
        print("\n".join(lines) or "no count has grown")
        return 1 if lines else 0
    few, many = asked.runs
    if not 0 < few < many:
        raise SystemExit("error: --runs needs two numbers, the smaller first")
    print(table(count(asked.arm, dict(asked.files), asked.cpus, (few, many), asked.out)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
