"""A camera loop: classify the newest frame of a folder, and skip older frames if the device is too slow.

    python examples/camera_loop.py exports/mobilenetv2-int8 frames/ [--stop-after 100] [--key release.pub]

Replace ``frames_of`` with your camera: ``runtime.predict`` also takes a uint8 array (height, width, 3) in RGB (OpenCV
returns BGR: ``frame[..., ::-1]``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from xxdeploy.errors import XXDeployError
from xxdeploy.runtime import load

PAUSE = 0.05


def frames_of(folder: Path) -> Iterator[Path]:
    """Yield the newest frame that was not seen yet, forever; older frames are skipped."""
    seen = ""
    while True:
        newest = max((path.name for path in folder.iterdir() if not path.name.startswith(".")), default="")
        if newest > seen:
            seen = newest
            yield folder / newest
        else:
            time.sleep(PAUSE)


def main() -> None:
    """Load once, then loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stop-after", type=int, default=0, help="frames; 0: never")
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    # The self-test at the start shows that this device computes the exported model's outputs.
    runtime = load(options.bundle, key=options.key, selftest=True)
    for number, frame in enumerate(frames_of(options.folder), 1):
        try:
            best = runtime.predict(frame, top=1)[0]
        except XXDeployError as error:  # one bad frame (half written, damaged) is no reason to stop
            print(f"{frame.name}: {error.code}", flush=True)
        else:
            print(f"{frame.name}: {best.label} {best.probability:.3f}", flush=True)
        if number == options.stop_after:
            return


if __name__ == "__main__":
    main()
