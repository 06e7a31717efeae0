"""Figures of docs/how-to/pictures.md and embed.md: phone photos, JPEG decoders, a container with half a processor.

    python benchmarks/pictures.py memory                       # memory and time of large photographs
    python benchmarks/pictures.py halves PHOTO.jpg ...         # JPEG's decode at 1/2, 1/4 and 1/8 against the full one
    python benchmarks/pictures.py decoders PHOTO.jpg ...       # TensorFlow's JPEG decoder against Pillow's options
    python benchmarks/pictures.py quota exports/BUNDLE         # answers in 8 s of half a processor, by threads (root)

`memory` decodes and resizes in a process of its own for each row; the memory is the growth of its peak, the time is its
processor time. `quota` makes a control group (version 1 or 2) for each process and removes it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 224
ROTATED = 6
"""The EXIF orientation of a photograph that was taken upright."""
PHOTOS: dict[str, tuple[tuple[int, int], dict[str, Any], str]] = {
    "JPEG, 4000 x 3000, upright": ((4000, 3000), {}, "bilinear-antialias"),
    "JPEG, 4000 x 3000, EXIF rotation": ((4000, 3000), {"exif": ROTATED}, "bilinear-antialias"),
    "JPEG, 8064 x 6048, upright": ((8064, 6048), {}, "bilinear-antialias"),
    "JPEG, 8064 x 6048, EXIF rotation": ((8064, 6048), {"exif": ROTATED}, "bilinear-antialias"),
    "JPEG, 8064 x 6048, EXIF rotation, bilinear": ((8064, 6048), {"exif": ROTATED}, "bilinear"),
    "progressive JPEG 4:4:4, 8064 x 6048": (
        (8064, 6048), {"progressive": True, "subsampling": 0}, "bilinear-antialias",
    ),
}  # fmt: skip
"""Width and height, how the file is saved, and the filter of each row."""


def write_photo(path: Path, size: tuple[int, int], exif: int | None = None, **saved: Any) -> None:
    """Write a cloudy picture with noise as a JPEG; ``exif`` is its orientation."""
    random = np.random.default_rng(0)
    clouds = Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    noise = Image.fromarray(random.integers(0, 30, (512, 512, 3), np.uint8))
    for x in range(0, size[0], 512):
        for y in range(0, size[1], 512):
            box = clouds.crop((x, y, x + 512, y + 512))
            clouds.paste(Image.blend(box, noise, 0.1), (x, y))
    if exif is not None:
        tags = Image.Exif()
        tags[0x0112] = exif
        saved["exif"] = tags
    clouds.save(path, "JPEG", quality=90, **saved)


def peak_bytes() -> int:
    """Return the largest resident size of this process."""
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def decode_once(path: Path, resample: str) -> dict[str, float]:
    """Bring a picture to size in this process; return megabytes beyond the runtime's own, and seconds."""
    from xxdeploy.runtime.image.preprocess import Preprocess
    from xxdeploy.runtime.image.sizing import Sizing

    how = Preprocess(SIZE, SIZE, sizing=Sizing(resample=resample))
    small = io.BytesIO()
    Image.new("RGB", (300, 200), 7).save(small, "JPEG")
    how.image(Image.open(small))  # what the first picture loads is not the picture's
    before, start = peak_bytes(), time.process_time()
    how.image(path)
    return {"mb": (peak_bytes() - before) / 1e6, "seconds": time.process_time() - start}


def memory() -> None:
    """Print a row for each of ``PHOTOS``."""
    print("| picture | memory | time |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, (size, saved, resample)) in enumerate(PHOTOS.items()):
            path = Path(folder, f"{number}.jpg")
            write_photo(path, size, **saved)
            figures = in_process("--decode", str(path), resample)
            print(f"| {title} | {figures['mb']:.0f} MB | {figures['seconds']:.2f} s |", flush=True)


def in_process(*words: str, enter: Callable[[], None] | None = None) -> dict[str, float]:
    """Run this file with ``words`` in a process of its own; return the figures that it prints."""
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True, preexec_fn=enter)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def resized(picture: Image.Image) -> NDArray[np.int16]:
    """Return a decoded picture at the size of the input."""
    return np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.int16)


def halves(paths: list[Path]) -> None:
    """Print the largest difference of decoding at 1/2, 1/4 and 1/8 from decoding fully, after resizing."""
    for factor in (2, 4, 8):
        largest = []
        for path in paths:
            with Image.open(path) as full, Image.open(path) as part:
                part.draft("RGB", (part.width // factor, part.height // factor))
                assert part.width < full.width, f"{path} is no JPEG, or too small"
                largest.append(int(np.abs(resized(full) - resized(part)).max()))
        print(f"1/{factor}: at most {max(largest)} of 255, median {statistics.median(largest)}, {len(paths)} pictures")


def decoders(paths: list[Path]) -> None:
    """Print how far Pillow's decoder, and its draft mode, are from each way in which TensorFlow decodes a JPEG."""
    import tensorflow as tf

    ways: dict[str, dict[str, Any]] = {
        "TensorFlow's default": {},
        "dct_method=INTEGER_FAST": {"dct_method": "INTEGER_FAST"},
        "dct_method=INTEGER_ACCURATE": {"dct_method": "INTEGER_ACCURATE"},
        "INTEGER_FAST, fancy_upscaling=False": {"dct_method": "INTEGER_FAST", "fancy_upscaling": False},
    }
    print("| TensorFlow | Pillow: equal pictures | largest step | Pillow's draft mode: equal | largest step |")
    print("| --- | --- | --- | --- | --- |")
    for title, options in ways.items():
        steps: dict[int, list[int]] = {0: [], 1: []}
        for path in paths:
            theirs = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3, **options).numpy().astype(np.int16)
            for draft, largest in steps.items():
                with Image.open(path) as picture:
                    picture.decoderconfig = (1, draft)  # the scale, and libjpeg's fast transform without smoothing
                    ours = np.asarray(picture.convert("RGB"), np.int16)
                largest.append(int(np.abs(ours - theirs).max()))
        cells = [f"{values.count(0)} of {len(values)} | {max(values)}" for values in steps.values()]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


def answer_for(bundle: Path, threads: int, seconds: float) -> dict[str, float]:
    """Predict one picture again and again in this process; return the number of answers and p50 and p99 in ms."""
    from xxdeploy.runtime import load

    with load(bundle, threads=threads, tuning="off") as runtime:
        how, times = runtime.manifest.picture, []
        pixels = np.zeros((how.height, how.width, how.channels), np.uint8)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            runtime.run([pixels])
            times.append(1e3 * (time.perf_counter() - start))
    return {"answers": len(times), "p50": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]}


@contextmanager
def control_group(share: float) -> Iterator[Callable[[], None]]:
    """Make a control group with a share of one processor; yield a function by which a process enters it."""
    old = Path("/sys/fs/cgroup/cpu")
    group = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"xxdeploy-benchmark-{os.getpid()}"
    group.mkdir()
    try:
        if old.is_dir():
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(round(share * 100_000)))
        else:
            (group / "cpu.max").write_text(f"{round(share * 100_000)} 100000")

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        yield enter
    finally:
        group.rmdir()


def quota(bundle: Path, seconds: float) -> None:
    """Print the answers of one and two threads in half a processor."""
    for threads in (1, 2):
        with control_group(0.5) as enter:
            figures = in_process("--answer", str(bundle), str(threads), str(seconds), enter=enter)
        print(
            f"{threads} thread(s), half a processor, {seconds:g} s: {figures['answers']:.0f} answers, "
            f"p50 {figures['p50']:.2f} ms, p99 {figures['p99']:.2f} ms",
            flush=True,
        )


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("memory", "halves", "decoders", "quota"))
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--decode", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--answer", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.decode:
        print(json.dumps(decode_once(Path(given.decode[0]), given.decode[1])))
    elif given.answer:
        print(json.dumps(answer_for(Path(given.answer[0]), int(given.answer[1]), float(given.answer[2]))))
    elif given.what == "memory":
        memory()
    elif given.what in ("halves", "decoders") and given.paths:
        {"halves": halves, "decoders": decoders}[given.what](given.paths)
    elif given.what == "quota" and len(given.paths) == 1:
        quota(given.paths[0], given.seconds)
    else:
        parser.error("give memory, halves PHOTOS, decoders PHOTOS or quota BUNDLE")


if __name__ == "__main__":
    main()
