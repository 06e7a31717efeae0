"""Run a bundle on an emulated ARM processor, with the wheels that an ARM device would install.

    python scripts/qemu_arm.py prepare FOLDER
    python scripts/qemu_arm.py run FOLDER SOURCE IMAGES [--images 60] [--variant NAME] [--float MODEL.onnx]

`prepare` unpacks (without installing) Debian's arm64 Python and the aarch64 wheels of numpy, pillow, onnxruntime and
LiteRT into FOLDER, about 300 MB. It needs Debian 12 or a derivative (apt-get, dpkg) and a package index. `run` starts
this Python under qemu-aarch64 with `xxdeploy.runtime`, prints the class of each image, and compares the outputs with
this machine. SOURCE is a bundle, or an .onnx file with the `tf` preprocessing. An image takes about half a second.

onnxruntime 1.24.1 and ai-edge-litert 1.4.0 work under Debian 12's qemu 7.2; onnxruntime 1.31 and 1.32 and
ai-edge-litert 2.3.0 crash there. `benchmarks/arm_instructions.py` counts instructions with the same folder.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from qemu_run import ROOT, compare, execute, find_images, require, run_here

PYTHON = "3.11"
PACKAGES = (
    f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libc6", "libcrypt1",
    "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1",
)  # fmt: skip
WHEELS = ("numpy", "pillow", "onnxruntime==1.24.1", "ai-edge-litert==1.4.0", "flatbuffers")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def prepare(folder: Path) -> None:
    """Download and unpack the ARM Python and its wheels, without touching the machine's own packages."""
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise SystemExit(f"error: {program} is absent\n hint: prepare the folder on Debian 12 and copy it here")
    root, site, apt = (folder.resolve() / name for name in ("root", "site", "apt"))
    for each in (root, site, apt / "lists" / "partial", apt / "cache" / "archives" / "partial"):
        each.mkdir(parents=True, exist_ok=True)
    options = ["APT::Architecture=arm64", "APT::Architectures=arm64", "Dir::State::status=/dev/null"]
    options += [f"Dir::State::Lists={apt / 'lists'}", f"Dir::Cache={apt / 'cache'}", "APT::Sandbox::User=root"]
    apt_get = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    _call([*apt_get, "update"], apt)
    _call([*apt_get, "download", *PACKAGES], apt)
    for package in sorted(apt.glob("*.deb")):
        _call(["dpkg", "-x", str(package), str(root)], apt)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(site), "--no-deps"]
    pip += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    _call([*pip, *(word for name in PLATFORMS for word in ("--platform", name)), *WHEELS], apt)
    print(f"{folder} is ready")


def arm_python(folder: Path, options: Sequence[str] = ("-cpu", "max")) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts the ARM Python with ``options`` of qemu, and its environment."""
    root = folder.resolve() / "root"
    python = root / "usr" / "bin" / f"python{PYTHON}"
    if not python.is_file():
        raise SystemExit(f"error: there is no {python}\n hint: python scripts/qemu_arm.py prepare {folder}")
    words = [require("qemu-aarch64"), *options, "-L", str(root), str(python)]
    return words, {"PYTHONPATH": f"{folder.resolve() / 'site'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}


def run(asked: argparse.Namespace) -> None:
    """Run the images on ARM and here, and compare."""
    words, environment = arm_python(asked.folder)
    images = find_images(asked.images_folder, asked.images)
    arm = execute(words, asked.source, images, variant=asked.variant, environment=environment)
    print(f"{arm.variant} on qemu-aarch64 ({arm.features})")
    print("classes:", *arm.classes)
    compare(
        "arm compared with native", arm, run_here(asked.source, images, arm.variant if asked.source.is_dir() else None)
    )
    if asked.float is not None:
        compare("float against arm", run_here(asked.float, images, None), arm)


def _call(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command[:2])} ... ended with {done.returncode}\n{done.stderr[-2000:]}")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare", help="download the ARM Python and its wheels")
    second = commands.add_parser("run", help="run a bundle or model on ARM")
    for command in (first, second):
        command.add_argument("folder", type=Path, help="folder of the ARM Python")
    second.add_argument("source", type=Path, help="bundle folder or .onnx file")
    second.add_argument("images_folder", type=Path, metavar="IMAGES", help="folder of images")
    second.add_argument("--images", type=int, default=60, help="number of images (default 60)")
    second.add_argument("--variant", help="variant of the bundle (default: the one that ARM picks)")
    second.add_argument("--float", type=Path, help="float .onnx file or bundle to compare with")
    asked = parser.parse_args()
    if asked.command == "prepare":
        prepare(asked.folder)
    else:
        run(asked)


if __name__ == "__main__":
    main()
