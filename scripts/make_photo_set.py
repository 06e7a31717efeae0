"""Write the photographs that ship in ``calibration/photos``, from packages of PyPI and Debian.

Unpack these packages into one folder, then run the script::

    pip download --no-deps scikit-image==0.26.0 && unzip -q scikit_image-*.whl -d SOURCE
    apt-get download palapeli-data lomiri-wallpapers-16.04 gcompris-qt-data    # Debian 12
    for file in *.deb; do dpkg-deb -x "$file" SOURCE; done
    python scripts/make_photo_set.py SOURCE [--out FOLDER]

``calibration/photos/README.md`` has the author, the license and the original of each. Photographs whose content does
not match their entry in the package's list of licenses were left out, and gray ones, which calibrate worse.
"""

from __future__ import annotations

import argparse
import io
import struct
import zlib
from pathlib import Path

from PIL import Image

OUT = Path(__file__).resolve().parent.parent / "calibration" / "photos"
SIDE = 512
QUALITY = 88
_SKIMAGE = "skimage/data"
_PALAPELI = "usr/share/palapeli/collection"
_GCOMPRIS = "usr/share/gcompris-qt/rcc"
_SORTS = f"{_GCOMPRIS}/categorization.rcc:gcompris/src/activities/categorization/resource/images"
PHOTOS = {
    "bridge": f"{_PALAPELI}/cincinnati-bridge.jpg",
    "bucket": f"{_SORTS}/others/bucket.webp",
    "cat": f"{_SKIMAGE}/chelsea.png",
    "citrus": f"{_PALAPELI}/citrus-fruits.jpg",
    "coffee": f"{_SKIMAGE}/coffee.png",
    "cup": f"{_SORTS}/others/buffetset.webp",
    "dam": f"{_SORTS}/renewable/dam2.webp",
    "dandelions": "usr/share/backgrounds/seeding_by_Clements_Engelhardt.jpg",
    "galaxies": f"{_SKIMAGE}/hubble_deep_field.jpg",
    "goldfish": f"{_SORTS}/fishes/fish25.webp",
    "honey-bee": f"{_PALAPELI}/european-honey-bee.jpg",
    "igloo": f"{_SORTS}/others/igloo.webp",
    "moose": (
        f"{_GCOMPRIS}/explore_world_animals.rcc:"
        "gcompris/src/activities/explore_world_animals/resource/animals/moose.webp"
    ),
    "nail-clipper": f"{_SORTS}/tools/nailCutter.webp",
    "pan": f"{_SORTS}/others/pan.webp",
    "perch": f"{_SORTS}/fishes/fish4.webp",
    "retina": f"{_SKIMAGE}/retina.jpg",
    "rocket": f"{_SKIMAGE}/rocket.jpg",
    "salmon": f"{_SORTS}/fishes/fish8.webp",
    "solar-cooker": f"{_SORTS}/renewable/solar2.webp",
    "windmill": f"{_SORTS}/renewable/windmill.webp",
}
"""The file of each photograph; after a colon, the file inside a Qt resource."""


def file_in_resource(data: bytes, path: str) -> bytes:
    """Return a file of a Qt resource (``.rcc``; the format is in Qt's ``qresource.cpp``), uncompressed or zlib."""
    magic, version, tree, contents, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres":
        raise SystemExit("this is not a Qt resource")
    node_size = 14 if version == 1 else 22
    node = 0
    for part in path.split("/"):
        count, first = struct.unpack_from(">II", data, tree + node * node_size + 6)
        for node in range(first, first + count):
            at = names + struct.unpack_from(">I", data, tree + node * node_size)[0]
            length = struct.unpack_from(">H", data, at)[0]
            if data[at + 6 : at + 6 + 2 * length].decode("utf-16-be") == part:
                break
        else:
            raise SystemExit(f"the resource has no file {path}")
    flags, _, _, offset = struct.unpack_from(">HHHI", data, tree + node * node_size + 4)
    at = contents + offset
    content = data[at + 4 : at + 4 + struct.unpack_from(">I", data, at)[0]]
    return zlib.decompress(content[4:]) if flags & 1 else content


def read(source: Path, path: str) -> Image.Image:
    """Open one of ``PHOTOS`` below ``source``, as RGB."""
    file, _, inner = path.partition(":")
    data = (source / file).read_bytes()
    return Image.open(io.BytesIO(file_in_resource(data, inner) if inner else data)).convert("RGB")


def main() -> None:
    """Write each photograph as a JPEG file without metadata."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    total = 0
    for name, path in PHOTOS.items():
        picture = read(asked.source, path)
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        file = asked.out / f"{name}.jpg"
        picture.save(file, quality=QUALITY, optimize=True, icc_profile=None)
        total += file.stat().st_size
    print(f"{len(PHOTOS)} photographs, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
