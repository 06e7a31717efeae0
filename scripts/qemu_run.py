"""Run a bundle or a model on images, in this process or in a Python on an emulated processor, for the qemu scripts.

    python scripts/qemu_run.py SOURCE OUT.npz IMAGE... [--variant NAME]

The script needs only the packages of a device (numpy, pillow, onnxruntime), so it also starts under qemu-user. SOURCE
is a bundle, or an .onnx file with the `tf` preprocessing. OUT.npz receives `outputs` (n, classes) and the printed
facts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # an emulated Python has no installed xxdeploy

from xxdeploy.cpu import cpu_features  # noqa: E402
from xxdeploy.runtime import load  # noqa: E402
from xxdeploy.runtime.engines.ort import OrtSession  # noqa: E402
from xxdeploy.runtime.image.preprocess import Preprocess  # noqa: E402

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


@dataclass(frozen=True, slots=True)
class Executed:
    """Results of a processor: ``outputs`` (n, classes), the model file, and the processor's features."""

    outputs: NDArray[np.float32]
    variant: str
    features: str

    @property
    def classes(self) -> NDArray[np.intp]:
        """The top-1 class of each image."""
        return np.asarray(self.outputs.argmax(axis=1))


def find_images(folder: Path, count: int) -> list[Path]:
    """Return ``count`` images below ``folder``, evenly spread over the sorted names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"error: there is no image below {folder}")
    return [files[index * len(files) // count] for index in range(min(count, len(files)))]


def require(program: str) -> str:
    """Return the path of an emulator, or exit with a message that says how to install it."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"error: {program} is not installed\n hint: on Debian: apt-get install qemu-user")
    return found


def execute(
    python: Sequence[str],
    source: Path,
    images: Sequence[Path],
    *,
    variant: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Executed:
    """Run ``source`` in another Python, which the command ``python`` starts."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.npz"
        command = [*python, __file__, str(source), str(out), *map(str, images)]
        command += ["--variant", variant] if variant else []
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"error: {' '.join(command[:4])} ... ended with {done.returncode}\n{done.stderr[-2000:]}")
        found = np.load(out)
        return Executed(found["outputs"], str(found["variant"]), str(found["features"]))


def compare(name: str, one: Executed, other: Executed) -> float:
    """Print the differences of two runs over the same images; return the share of images with the same class."""
    same = float((one.classes == other.classes).mean())
    difference = np.abs(one.outputs - other.outputs)
    equal = float((difference == 0).mean())
    print(
        f"{name:34}{100 * same:7.2f} % of {len(one.outputs)} images have the same class, "
        f"{100 * equal:6.2f} % of outputs are equal, largest difference {difference.max():.3g}"
    )
    return same


def run_here(source: Path, images: Sequence[Path], variant: str | None, instead: bytes | None = None) -> Executed:
    """Run ``source``, or the model ``instead``, in this process."""
    if source.is_dir():
        runtime = load(source, variant=variant, session=None if instead is None else OrtSession(instead))
        run = runtime.probabilities if runtime.manifest.task == "classification" else runtime.features
        outputs = [run([path]) for path in images]
        name = runtime.variant.name
    else:
        session = OrtSession(source.read_bytes() if instead is None else instead)
        _, height, width, channels = session._session.get_inputs()[0].shape
        preprocess = Preprocess(height, width, channels, mode="tf")
        outputs = [session.run(preprocess.batch([path])) for path in images]
        name = source.name
    rows = np.concatenate([each.reshape(1, -1) for each in outputs])
    return Executed(rows, name, " ".join(sorted(cpu_features())))


def main() -> None:
    """Run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="bundle folder or .onnx file")
    parser.add_argument("out", type=Path, help=".npz to write")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--variant", help="variant of the bundle (default: the one that this processor picks)")
    asked = parser.parse_args()
    found = run_here(asked.source, asked.images, asked.variant)
    np.savez(asked.out, outputs=found.outputs, variant=found.variant, features=found.features)
    print(f"{found.variant} on a processor with {found.features or 'unknown features'}: {len(found.outputs)} images")


if __name__ == "__main__":
    main()
