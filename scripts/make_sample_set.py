"""Write the sample images that ship in ``calibration/sample``, from Fashion-MNIST.

Run it in a checkout, with Debian's package ``dataset-fashion-mnist`` (or the same four files elsewhere)::

    python scripts/make_sample_set.py [--source FOLDER] [--out FOLDER]

Images are taken in the order of the data set, class by class, so the same source yields the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.models.samples import FASHION_MNIST

SOURCE = Path("/usr/share/datasets/fashion-mnist")
OUT = Path(__file__).resolve().parent.parent / "calibration" / "sample"
CALIBRATION = 20  # images of each class, from the training split
EVALUATION = 50  # images of each class, from the test split


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes (Y. LeCun: THE MNIST DATABASE, "file formats")."""
    data = gzip.decompress(path.read_bytes())
    zero, kind, dimensions = struct.unpack(">HBB", data[:4])
    if zero != 0 or kind != 8:
        raise SystemExit(f"{path} is not an IDX file of bytes")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_split(source: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images ``(n, 28, 28)`` and labels ``(n,)`` of ``train`` or ``t10k``."""
    return read_idx(source / f"{split}-images-idx3-ubyte.gz"), read_idx(source / f"{split}-labels-idx1-ubyte.gz")


def choose(images: NDArray[np.uint8], labels: NDArray[np.uint8], count: int, seen: set[bytes]) -> list[list[int]]:
    """Return for each class the first ``count`` images whose pixels are not ``seen`` yet; adds them to ``seen``."""
    chosen: list[list[int]] = []
    for label in range(len(FASHION_MNIST)):
        indices: list[int] = []
        for index in np.flatnonzero(labels == label):
            digest = hashlib.sha256(images[index].tobytes()).digest()
            if digest not in seen:
                seen.add(digest)
                indices.append(int(index))
            if len(indices) == count:
                break
        chosen.append(indices)
    return chosen


def write(folder: Path, images: NDArray[np.uint8], chosen: list[list[int]]) -> None:
    """Write ``folder/CLASS/NNN.png``, 28 x 28 gray."""
    for name, indices in zip(FASHION_MNIST, chosen, strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, index in enumerate(indices):
            Image.fromarray(images[index]).save(folder / name / f"{number:03}.png", optimize=True)


def main() -> None:
    """Write both sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    seen: set[bytes] = set()
    for folder, split, count in (("calibration", "train", CALIBRATION), ("evaluation", "t10k", EVALUATION)):
        images, labels = read_split(arguments.source, split)
        write(arguments.out / folder, images, choose(images, labels, count, seen))


if __name__ == "__main__":
    main()
