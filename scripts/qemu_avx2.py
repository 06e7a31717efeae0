"""Run INT8 on an emulated x86 processor without VNNI, and compare it with this machine and with the emulating graph.

    python scripts/qemu_avx2.py SOURCE IMAGES [--images 60] [--variant NAME] [--float MODEL.onnx]

SOURCE is a bundle or an .onnx file with the `tf` preprocessing, IMAGES a folder of images. qemu-user translates this
Python, at one to two seconds an image. The script runs the same images three times:

- haswell: under qemu-x86_64, with AVX2 and without VNNI: the results of such a processor;
- native: on this processor (16-bit sums saturate only if it has no VNNI);
- emulated: by the graph of `xxdeploy.quantize.x86.saturation.emulate_avx2`, which predicts haswell's results.

All three use the variant that the emulated processor picks. The exit status is 1 if the emulating graph and haswell
return different classes for any image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qemu_run import compare, execute, find_images, require, run_here

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.x86.processors import risky_layers
from xxdeploy.quantize.x86.saturation import emulate_avx2
from xxdeploy.runtime.bundle.files import open_bundle

HASWELL = "Haswell,-hle,-rtm,-invpcid"


def read_model(source: Path, variant: str) -> OnnxModel:
    """Return the model file that ran."""
    if source.is_dir():
        root, manifest = open_bundle(source)
        source = root / next(each.model for each in manifest.variants if each.name == variant)
    return OnnxModel(source.read_bytes())


def main() -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="bundle folder or .onnx file")
    parser.add_argument("folder", type=Path, help="folder of images")
    parser.add_argument("--images", type=int, default=60, help="number of images (default 60)")
    parser.add_argument("--variant", help="variant of the bundle (default: the one that the emulated processor picks)")
    parser.add_argument("--float", type=Path, help="float .onnx file or bundle to compare with")
    parser.add_argument("--cpu", default=HASWELL, help=f"qemu's name of the processor (default {HASWELL})")
    asked = parser.parse_args()
    qemu = require("qemu-x86_64")
    images = find_images(asked.folder, asked.images)
    haswell = execute([qemu, "-cpu", asked.cpu, sys.executable], asked.source, images, variant=asked.variant)
    variant = haswell.variant if asked.source.is_dir() else None
    model = read_model(asked.source, haswell.variant)
    risky = risky_layers(model)
    print(f"{haswell.variant} on {asked.cpu} ({haswell.features})")
    print(f"{sum(risky.values())} saturating pairs in {sum(map(bool, risky.values()))} layers")
    native = run_here(asked.source, images, variant)
    emulated = run_here(asked.source, images, variant, emulate_avx2(model).to_bytes())
    same = compare("emulated against haswell", emulated, haswell)
    compare("native against haswell", native, haswell)
    if asked.float is not None:
        reference = run_here(asked.float, images, None)
        for name, each in (("native", native), ("emulated", emulated), ("haswell", haswell)):
            compare(f"float against {name}", reference, each)
    return 0 if same == 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
