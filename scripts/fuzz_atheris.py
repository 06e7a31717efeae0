"""Fuzz the readers of files with atheris (libFuzzer): inputs that reach new code are kept and mutated further.

    pip install 'xxdeploy[fuzz]'        x86-64 Linux
    python scripts/fuzz_atheris.py [--seconds 60] [--runs 1000000] [--target manifest] [--seed 1] [--keep FOLDER]

Each target runs in a separate process for ``--seconds`` or ``--runs`` inputs, whichever ends first. libFuzzer mutates
bytes; ``fuzz_inputs.py`` mutates JSON by its structure, too. An input is a fault if reading it raises anything except
an ``XXDeployError`` with a hint, takes more than 2 s of processor time or 20 s in all, or kills the process. It is
also a fault if the process, including atheris, takes more than 300 MB. The exit status is 1 if there is a fault; with
--keep faults are written to a folder.

Coverage is that of Python code: xxdeploy, and the Python parts of Pillow and numpy. C code (json, decoders, ONNX
Runtime) runs without coverage.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS, HANG, MEGABYTES = 2.0, 20, 300
TARGETS: dict[str, tuple[str, ...]] = {
    "manifest": ("xxdeploy.runtime.bundle.manifest",),
    "bundle": ("xxdeploy.runtime", "xxdeploy.bundle.folder"),
    "array": ("numpy.lib._format_impl", "xxdeploy.runtime.bundle.contents"),
    "picture": ("PIL.Image", "xxdeploy.runtime.image.preprocess", "xxdeploy.runtime.predictor"),
    "calibration": ("xxdeploy.results",),
    "recipe": (
        "xxdeploy.datasets.scaling_file", "xxdeploy.datasets.recipe", "xxdeploy.quantize.recipe",
        "xxdeploy.quantize.calibration.given_ranges",
    ),
    "labels": ("xxdeploy.datasets.labels", "xxdeploy.runtime.bundle.contents"),
    "signature": ("xxdeploy.runtime.bundle.signature",),
    "engine": ("xxdeploy.runtime.engines.engine_file",),
}  # fmt: skip
"""Each target, and the modules that are imported with counters in them."""
_JSON = ("manifest", "calibration", "engine")
_PARTS = (
    "manifest.json", "labels.txt", "golden/inputs.npy", "golden/portable.npy", "model.onnx",
)  # fmt: skip
_LARGEST = 1 << 14


def target(name: str, folder: Path) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Return the reader of a target, and its first inputs."""
    from fuzz_inputs import pictures
    from fuzz_readers import ENGINE, RECIPES, Readers

    readers = Readers(folder, bundle=name != "picture")

    def from_file(read: Callable[[Path], None]) -> Callable[[bytes], None]:
        def write_and_read(data: bytes) -> None:
            readers.file.write_bytes(data)
            read(readers.file)

        return write_and_read

    def bundle(data: bytes) -> None:
        if data:  # the first byte says which file it is
            readers.read_bundle(_PARTS[data[0] % len(_PARTS)], data[1:])

    def signature(data: bytes) -> None:
        signed, _, key = data.partition(b"\n---\n")
        readers.read_signature(signed, key)

    if name == "picture":
        return from_file(readers.read_picture), list(pictures())
    parts = readers.parts
    match name:
        case "manifest":
            return readers.read_manifest, [parts["manifest.json"]]
        case "bundle":
            return bundle, [bytes([number]) + parts[part] for number, part in enumerate(_PARTS)]
        case "array":
            return readers.read_array, [parts["golden/inputs.npy"], parts["golden/portable.npy"]]
        case "calibration":
            return readers.read_calibration, [json.dumps(readers.calibration()).encode()]
        case "recipe":
            return from_file(readers.read_recipe), list(RECIPES)
        case "labels":
            return from_file(readers.read_labels), [parts["labels.txt"]]
        case "signature":
            return signature, [b"\n---\n".join(readers.signed())]
    return readers.read_engine, [json.dumps(ENGINE).encode()]


def mutate(data: bytes, largest: int, seed: int) -> bytes:
    """Mutate JSON by its structure every other time, and everything else by libFuzzer."""
    import atheris
    from fuzz_inputs import spoil_json

    chance = random.Random(seed)
    if chance.random() < 0.5:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            pass
        else:
            changed = spoil_json(document, chance) if isinstance(document, dict | list) else b""
            if 0 < len(changed) <= largest:
                return changed
    mutated: bytes = atheris.Mutate(data, largest)
    return mutated


def child(name: str, folder: Path, options: list[str]) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["xxdeploy", "PIL", "numpy.lib._format_impl"]):
        for module in TARGETS[name]:
            importlib.import_module(module)
    from xxdeploy.errors import XXDeployError

    read, seeds = target(name, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
        with contextlib.suppress(XXDeployError):  # a good file of another kind, or a mode that is refused
            read(seed)  # imports are no part of the first input's time

    def run(data: bytes) -> None:
        start = time.process_time()
        try:
            read(data)
        except XXDeployError as error:
            if not error.message or not error.hint:
                raise AssertionError("an error without message or hint") from error
        seconds = time.process_time() - start
        if seconds > SECONDS:
            raise AssertionError(f"{seconds:.1f} s of processor time")

    command = [sys.argv[0], str(corpus), f"-max_len={_LARGEST}", f"-timeout={HANG}", "-print_final_stats=1", *options]
    atheris.Setup(command, run, custom_mutator=mutate if name in _JSON else None)
    atheris.Fuzz()


def drive(name: str, seconds: int, runs: int, seed: int, keep: Path | None) -> dict[str, Any]:
    """Fuzz one target in a separate process; return the figures that libFuzzer prints at its end."""
    with tempfile.TemporaryDirectory() as work:
        faults = keep or Path(work)
        faults.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-rss_limit_mb={MEGABYTES}",
            f"-artifact_prefix={faults}/{name}-",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, __file__, "--child", name, work, *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
            timeout=seconds + 10 * HANG,
        )  # fmt: skip
    said = done.stdout

    def stat(key: str) -> int:
        found = re.search(rf"stat::{key}:\s+(\d+)", said)
        return int(found[1]) if found else 0

    edges = re.findall(r"cov: (\d+)", said)
    fault = ""
    if done.returncode:
        raised = re.search(r"=== Uncaught Python exception: ===\n(.*)", said) or re.search(r"ERROR: (.*)", said)
        fault = f"{name}: status {done.returncode}: {raised[1] if raised else said[-400:]}"
    elif not stat("number_of_executed_units"):
        fault = f"{name}: nothing was run: {said[-400:]}"
    return {
        "runs": stat("number_of_executed_units"), "kept": stat("new_units_added"), "memory": stat("peak_rss_mb"),
        "edges": (int(edges[0]), int(edges[-1])) if edges else (0, 0), "fault": fault,
    }  # fmt: skip


def main() -> int:
    """Parse, fuzz every target, print a table."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=1_000_000, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        raise SystemExit("atheris is not installed: pip install 'xxdeploy[fuzz]' (x86-64 Linux)")
    print("| target | inputs | inputs that reached new code | edges: valid files, at the end | peak memory, MB |")
    print("| --- | --- | --- | --- | --- |")
    faults, total = [], 0
    for name in TARGETS if options.target is None else (options.target,):
        found = drive(name, options.seconds, options.runs, options.seed, options.keep)
        first, last = found["edges"]
        print(f"| {name} | {found['runs']:,} | {found['kept']} | {first}, {last} | {found['memory']} |", flush=True)
        total += found["runs"]
        if found["fault"]:
            faults.append(found["fault"])
    print(f"{total:,} inputs, {len(faults)} faults", *faults, sep="\n  ")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
