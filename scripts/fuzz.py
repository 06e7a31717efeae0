"""Pass malformed files to every reader; each must return a result or raise an ``XXDeployError``.

    python scripts/fuzz.py --inputs 10000 [--seed 0] [--target manifest] [--keep FOLDER]

Each target runs in a separate process. If an input crashes the process or takes more than 20 s (of which 2 s of
processor time are allowed; the rest is for busy machines), the process is killed, and a new one continues after that
input. The peak memory is read at the end. The exit status is 1 if any input violates a rule; with --keep these inputs
are written to a folder.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
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

from fuzz_inputs import pictures, spoil, spoil_json
from fuzz_readers import ENGINE, RECIPES, Readers

from xxdeploy.errors import XXDeployError
from xxdeploy.runtime.bench import peak_memory

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
    """Mutates valid files. Each method takes an index and passes one malformed input to its reader."""

    def __init__(self, folder: Path, seed: int, *, bundle: bool = True) -> None:
        self.seed, self.clock = seed, 0.0
        self.readers = Readers(folder, bundle=bundle)
        self.file = self.readers.file
        self._pictures = pictures()

    def chance(self, target: str, index: int) -> random.Random:
        """Return the randomness of one input."""
        return random.Random(f"{self.seed}-{target}-{index}")

    def keep(self, data: bytes) -> bytes:
        """Write an input to a file, so that it survives if reading it kills the process."""
        self.file.write_bytes(data)
        return data

    def manifest_input(self, index: int) -> None:
        """Mutate the manifest."""
        chance, readers = self.chance("manifest", index), self.readers
        if chance.random() < 0.7:
            data = spoil_json(copy.deepcopy(readers.manifest), chance)
        else:
            data = spoil(readers.parts["manifest.json"], chance)
        readers.read_manifest(self.keep(data))

    def bundle_input(self, index: int) -> None:
        """Mutate one file of the bundle, sometimes the manifest."""
        chance, parts = self.chance("bundle", index), self.readers.parts
        name = chance.choice(sorted(parts))
        if name == "manifest.json":
            data = spoil_json(copy.deepcopy(self.readers.manifest), chance)
        else:
            data = spoil(parts[name], chance, parts[chance.choice(sorted(parts))])
        self.readers.read_bundle(name, self.keep(data))

    def model_input(self, index: int) -> None:
        """Mutate the ONNX file."""
        parts = self.readers.parts
        self.readers.read_model(self.keep(spoil(parts["model.onnx"], self.chance("model", index), parts["labels.txt"])))

    def signature_input(self, index: int) -> None:
        """Mutate the signature or the key."""
        chance = self.chance("signature", index)
        signature, public = self.readers.signed()
        if chance.random() < 0.5:
            signature = spoil(signature, chance, self.readers.parts["manifest.json"])
        else:
            public = spoil(public, chance, signature)
        self.keep(signature + b"\n---\n" + public)
        self.readers.read_signature(signature, public)

    def picture_input(self, index: int) -> None:
        """Mutate an image."""
        chance = self.chance("picture", index)
        self.keep(spoil(chance.choice(self._pictures), chance, chance.choice(self._pictures)))
        self.readers.read_picture(self.file)

    def bomb_input(self, index: int) -> None:
        """Pass an image that is far larger than its file."""
        # Made by another process: making one takes more memory than reading it.
        width, height, depth, color = BOMBS[index % len(BOMBS)]
        code = (
            "import sys; from fuzz_inputs import png_bomb; "
            f"open(sys.argv[1], 'wb').write(png_bomb({width}, {height}, depth={depth}, color={color}))"
        )
        subprocess.run([sys.executable, "-c", code, str(self.file)], check=True, cwd=Path(__file__).parent)
        self.clock = time.process_time()  # making a bomb takes longer than reading it
        self.readers.read_picture(self.file)

    def array_input(self, index: int) -> None:
        """Mutate golden pairs."""
        data = spoil(self.readers.parts["golden/inputs.npy"], self.chance("array", index))
        self.readers.read_array(self.keep(data))

    def labels_input(self, index: int) -> None:
        """Mutate the labels."""
        self.keep(spoil(self.readers.parts["labels.txt"], self.chance("labels", index)))
        self.readers.read_labels(self.file)

    def calibration_input(self, index: int) -> None:
        """Mutate a calibration record."""
        chance = self.chance("calibration", index)
        self.readers.read_calibration(self.keep(spoil_json(self.readers.calibration(), chance)))

    def recipe_input(self, index: int) -> None:
        """Mutate recipes, scalings and calibration caches."""
        chance = self.chance("recipe", index)
        self.keep(spoil(chance.choice(RECIPES), chance, chance.choice(RECIPES)))
        self.readers.read_recipe(self.file)

    def engine_input(self, index: int) -> None:
        """Mutate the record of an engine."""
        data = spoil_json(copy.deepcopy(ENGINE), self.chance("engine", index))
        self.readers.read_engine(self.keep(data))


def child(folder: Path, target: str, seed: int, start: int, end: int) -> None:
    """Run inputs ``start`` to ``end``; print a line of JSON before and after each."""
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
    """Run a target to its end in as many processes as needed; return the outcomes."""
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
    """Kills a process that has printed nothing for ``HANG`` seconds."""

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
