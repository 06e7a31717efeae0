"""Feed malformed files to everything that reads files, and look at what comes back: an answer, or an error of ours.

    python scripts/fuzz.py --inputs 10000 [--seed 0] [--target manifest] [--keep FOLDER]

Each target runs in a process of its own, which is killed and started again behind an input that crashes it or takes
more than 20 s (on a busy machine; what is judged is the input's own processor time, 2 s). Its peak memory is read at
the end.
Status 1 if any input did something else than it should; with --keep those inputs are written to a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_inputs import pictures, spoil, spoil_json

from xxdeploy.errors import XXDeployError
from xxdeploy.runtime.bench import peak_memory
from xxdeploy.runtime.manifest import Manifest
from xxdeploy.runtime.preprocess import Preprocess

ROOT = Path(__file__).resolve().parent.parent
SECONDS, HANG, MEGABYTES = 2.0, 20.0, 300
SHARES = {
    "manifest": 25, "bundle": 15, "model": 10, "signature": 5, "picture": 20, "bomb": 0, "array": 5, "labels": 5,
    "calibration": 5, "recipe": 5, "engine": 5,
}  # fmt: skip
"""Of a hundred inputs, how many are for each target; bombs are a fixed few."""
BOMBS = (
    (4000, 4000, 8, 2), (4000, 4000, 8, 3), (4000, 4000, 8, 6), (4000, 4000, 16, 0), (4000, 4000, 16, 6),
    (4000, 4000, 8, 0), (4_000_000, 4, 8, 2), (16_000_000, 1, 8, 2), (9400, 9500, 8, 2),
    (30_000, 30_000, 1, 0), (65_000, 65_000, 8, 2),
)  # fmt: skip


class Targets:
    """The readers. Each takes an index and does one thing with one malformed input."""

    def __init__(self, folder: Path, seed: int, *, bundle: bool = True) -> None:
        self.folder, self.seed, self.clock = folder, seed, 0.0
        self.file = folder / "input"
        self._pictures = pictures()
        self._key: Path | None = None
        if not bundle:  # onnx, which makes it, is not there on a device, and would count as memory
            return
        sys.path.insert(0, str(ROOT / "tests"))
        import tiny_bundle

        self.bundle = tiny_bundle.make(folder / "bundle") if not (folder / "bundle").exists() else folder / "bundle"
        self.parts = {
            path.relative_to(self.bundle).as_posix(): path.read_bytes()
            for path in self.bundle.rglob("*")
            if path.is_file()
        }
        self.manifest = json.loads(self.parts["manifest.json"])

    def chance(self, target: str, index: int) -> random.Random:
        """Return the randomness of one input."""
        return random.Random(f"{self.seed}-{target}-{index}")

    def manifest_input(self, index: int) -> None:
        """Spoil the manifest."""
        chance = self.chance("manifest", index)
        if chance.random() < 0.7:
            data = spoil_json(copy.deepcopy(self.manifest), chance)
        else:
            data = spoil(self.parts["manifest.json"], chance)
        self.file.write_bytes(data)
        Manifest.from_json(data).to_json()

    def bundle_input(self, index: int) -> None:
        """A file of the bundle is spoiled, with its hash made right again; now and then the manifest, too."""
        from xxdeploy.bundle.check import check_bundle
        from xxdeploy.runtime import load

        chance = self.chance("bundle", index)
        name = chance.choice(sorted(self.parts))
        spoiled = dict(self.parts)
        if name == "manifest.json":
            spoiled[name] = spoil_json(copy.deepcopy(self.manifest), chance)
        else:
            spoiled[name] = spoil(spoiled[name], chance, self.parts[chance.choice(sorted(self.parts))])
            manifest = copy.deepcopy(self.manifest)
            for entry in manifest["files"]:
                entry.update(
                    sha256=hashlib.sha256(spoiled[entry["path"]]).hexdigest(), size=len(spoiled[entry["path"]])
                )
            spoiled["manifest.json"] = json.dumps(manifest).encode()
        for path, data in spoiled.items():
            (self.bundle / path).write_bytes(data)
        self.file.write_bytes(spoiled[name])
        with contextlib.suppress(XXDeployError):
            check_bundle(self.bundle)
        runtime = load(self.bundle, threads=1)
        p = runtime.manifest.preprocess
        if p.height * p.width <= 1 << 20:  # what a manifest asks for, up to the largest that it may, is no fault
            runtime.probabilities(np.zeros((p.height, p.width, p.channels), np.uint8))
        runtime.selftest()

    def model_input(self, index: int) -> None:
        """Spoil the ONNX file."""
        from xxdeploy.runtime.ort import OrtSession

        chance = self.chance("model", index)
        data = spoil(self.parts["model.onnx"], chance, self.parts["labels.txt"])
        self.file.write_bytes(data)
        OrtSession(data, threads=1).run(np.zeros((1, 8, 8, 3), np.float32))

    def signature_input(self, index: int) -> None:
        """Spoil the signature or the key."""
        from xxdeploy.runtime.signature import trust

        chance = self.chance("signature", index)
        if self._key is None:
            from xxdeploy.bundle.sign import generate_key, sign

            self._key = self.folder / "k.pub"
            if not self._key.exists():
                generate_key(self.folder / "k")
                sign(self.bundle, self.folder / "k.key", version=3)
        record, public = self.parts["manifest.json"], self._key.read_bytes()
        signature = (self.bundle / "manifest.sig").read_bytes()
        if chance.random() < 0.5:
            signature = spoil(signature, chance, record)
        else:
            public = spoil(public, chance, signature)
        self.file.write_bytes(signature + b"\n---\n" + public)
        before = trust((self.folder / "k.pub").read_bytes())
        asked = trust(public)
        assert asked is not None
        assert before is not None
        asked.version_of(record, "manifest.json", signature)
        same = signature == (self.bundle / "manifest.sig").read_bytes()
        if not set(asked.keys) & set(before.keys) or not same:  # a key may well be in the file twice
            raise AssertionError("a spoiled signature or key was accepted")

    def picture_input(self, index: int) -> None:
        """Spoil a picture."""
        chance = self.chance("picture", index)
        self._picture(spoil(chance.choice(self._pictures), chance, chance.choice(self._pictures)))

    def bomb_input(self, index: int) -> None:
        """Give a picture that is far larger than its file."""
        # Made by another process: making one takes more memory than reading it.
        width, height, depth, colour = BOMBS[index % len(BOMBS)]
        code = (
            "import sys; from fuzz_inputs import png_bomb; "
            f"open(sys.argv[1], 'wb').write(png_bomb({width}, {height}, depth={depth}, colour={colour}))"
        )
        subprocess.run([sys.executable, "-c", code, str(self.file)], check=True, cwd=Path(__file__).parent)
        self._picture(None)

    def _picture(self, data: bytes | None) -> None:
        from xxdeploy.runtime.predictor import DEVICE_PIXELS

        if data is not None:
            self.file.write_bytes(data)
        self.clock = time.process_time()  # making a bomb takes longer than reading it
        image = Preprocess(8, 8).image(self.file, max_pixels=DEVICE_PIXELS)
        assert image.shape == (8, 8, 3)

    def array_input(self, index: int) -> None:
        """Spoil golden pairs."""
        from xxdeploy.runtime.npy import array_from_npy

        data = spoil(self.parts["golden/inputs.npy"], self.chance("array", index))
        self.file.write_bytes(data)
        array_from_npy(data, "a")

    def labels_input(self, index: int) -> None:
        """Spoil the labels."""
        from xxdeploy.datasets.labels import load_labels
        from xxdeploy.runtime.labels import labels_from_text

        data = spoil(self.parts["labels.txt"], self.chance("labels", index))
        self.file.write_bytes(data)
        with contextlib.suppress(XXDeployError):
            load_labels(self.file)
        labels_from_text(data, 10)

    def calibration_input(self, index: int) -> None:
        """Spoil a calibration record."""
        from xxdeploy.artifacts import Ranges, noise_from_json

        chance = self.chance("calibration", index)
        record = json.loads(Ranges("minmax", "a" * 64, "b" * 64, 3, {"x": (0.0, 1.5), "y": (-2.0, 2.0)}).to_json())
        data = spoil_json(record, chance)
        self.file.write_bytes(data)
        text = data.decode("utf-8", "replace")
        with contextlib.suppress(XXDeployError):
            noise_from_json(text)
        Ranges.from_json(text)

    def recipe_input(self, index: int) -> None:
        """Spoil recipes, scalings and calibration caches."""
        from xxdeploy.datasets.preprocess_file import load_scaling
        from xxdeploy.datasets.recipe import load_recipe
        from xxdeploy.quantize.recipe import load_quantization
        from xxdeploy.quantize.tensorrt_cache import ranges_from_tensorrt_cache

        chance = self.chance("recipe", index)
        seeds = (
            b'folder = "images"\nsamples = 100\nseed = 3\nmethod = "minmax"\nresize = "crop"\n',
            b'scheme = "static-w8c-a8"\ncalibrator = "mse"\nfloat-layers = ["a"]\nequalization = true\n',
            b'scale = 0.0039\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\norder = "rgb"\n',
            b"TRT-8601-EntropyCalibration2\nimage: 3c010a14\nprobabilities: 3c010204\n",
        )
        self.file.write_bytes(spoil(chance.choice(seeds), chance, chance.choice(seeds)))
        for read in (load_recipe, load_quantization, ranges_from_tensorrt_cache):
            with contextlib.suppress(XXDeployError):
                read(self.file)
        load_scaling(self.file, 3)

    def engine_input(self, index: int) -> None:
        """Spoil the record of an engine."""
        from xxdeploy.runtime.engine_file import record_from_json

        chance = self.chance("engine", index)
        data = spoil_json(
            {
                "schema": 1, "plan": {"sha256": "a" * 64, "size": 3}, "model_sha256": "b" * 64, "version": "1",
                "target": "tensorrt-rtx", "options": {"strip": False}, "proof": {"shares": {"int8": 1.0}},
            }, chance,
        )  # fmt: skip
        self.file.write_bytes(data)
        record_from_json(data)


def child(folder: Path, target: str, seed: int, start: int, end: int) -> None:
    """Run inputs ``start`` to ``end``; a line of JSON on stdout before and after each."""
    targets = Targets(folder, seed, bundle=target not in ("picture", "bomb"))
    run: Callable[[int], None] = getattr(targets, f"{target}_input")
    with contextlib.suppress(Exception):
        run(-1)  # imports are no part of the first input's time
    for index in range(start, end):
        print(json.dumps({"at": index}), flush=True)
        targets.clock, outcome = time.process_time(), "accepted"
        try:
            run(index)
        except XXDeployError as error:
            outcome = f"refused {error.code}"
            if not error.message or not error.hint:
                outcome = "bug: an error without message or hint"
        except BaseException as error:  # noqa: BLE001 - what else there is, is what is looked for
            outcome = f"bug: {type(error).__name__}: {str(error)[:200]}"
        seconds = time.process_time() - targets.clock
        print(json.dumps({"done": index, "outcome": outcome, "seconds": seconds}), flush=True)
    print(json.dumps({"memory": peak_memory()}), flush=True)


def drive(folder: Path, target: str, seed: int, count: int, keep: Path | None) -> dict[str, Any]:
    """Run a target to its end over as many processes as it takes; return what came of it."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    slowest, memory, start = 0.0, 0, 0
    while start < count:
        command = [sys.executable, __file__, "--child", target, str(folder), str(seed), str(start), str(count)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        at = start
        watch = _Watch(process)
        for line in process.stdout:
            said = json.loads(line)
            watch.seen()
            if "at" in said:
                at = said["at"]
            elif "done" in said:
                outcomes[said["outcome"].partition(":")[0]] += 1
                slowest = max(slowest, said["seconds"])
                if said["outcome"].startswith("bug"):
                    faults.append(f"{target} {at}: {said['outcome']}")
                elif said["seconds"] > SECONDS:
                    faults.append(f"{target} {at}: {said['seconds']:.1f} s")
                start = at + 1
            else:
                memory = max(memory, said["memory"] or 0)
        status = process.wait()
        watch.stop()
        if start <= at < count:
            faults.append(f"{target} {at}: {'hang' if watch.fired else f'crash, status {status}'}")
            outcomes["crash"] += 1
            start = at + 1
        if keep is not None and faults and (folder / "input").exists():
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{target}-{at}").write_bytes((folder / "input").read_bytes())
    if memory > MEGABYTES * 1_000_000:
        faults.append(f"{target}: {memory / 1e6:.0f} MB")
    return {"outcomes": outcomes, "faults": faults, "slowest": slowest, "memory": memory}


class _Watch:
    """Kills a process from which nothing was heard for ``HANG`` seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        import threading

        self.fired, self._process, self._last, self._over = False, process, time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def seen(self) -> None:
        self._last = time.monotonic()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _wait(self) -> None:
        while not self._over.wait(0.5):
            if time.monotonic() - self._last > HANG:
                self.fired = True
                self._process.kill()
                return


def main() -> int:
    """Parse, run every target, print a table."""
    if sys.argv[1:2] == ["--child"]:
        target, folder, seed, start, end = sys.argv[2:]
        child(Path(folder), target, int(seed), int(start), int(end))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=sorted(SHARES))
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    faults: list[str] = []
    total = 0
    print("| target | inputs | accepted | refused | kinds of error | slowest, s | peak memory, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for target, share in SHARES.items():
        if options.target not in (None, target):
            continue
        count = len(BOMBS) if target == "bomb" else options.inputs if options.target else options.inputs * share // 100
        with tempfile.TemporaryDirectory() as folder:
            found = drive(Path(folder), target, options.seed, count, options.keep)
        outcomes = found["outcomes"]
        refused = {name: number for name, number in outcomes.items() if name.startswith("refused")}
        print(
            f"| {target} | {count} | {outcomes['accepted']} | {sum(refused.values())} | {len(refused)} "
            f"| {found['slowest']:.2f} | {found['memory'] / 1e6:.0f} |",
            flush=True,
        )
        faults += found["faults"]
        total += count
    print(f"{total} inputs, {len(faults)} faults")
    for fault in faults[:50]:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
