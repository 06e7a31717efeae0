"""Stands in for ``python -m xxdeploy export ...``: copies a bundle that was made before, or fails as it is told to.

Its ways to fail are asked for by --labels=WAY: each job can have its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path


def main(words: list[str]) -> int:
    template, calls, *words = words
    given = dict(word.lstrip("-").split("=", 1) for word in words if word.startswith("--") and "=" in word)
    out, way = Path(given["out"]), given.get("labels", "")
    with Path(calls).open("a") as file:
        file.write(f"{out.name} {os.getpid()}\n")
    if way == "error":
        sys.stderr.write("a library talks\n")
        sys.stderr.write(json.dumps({"error": {"code": "parity", "message": "not the same", "hint": "look"}}) + "\n")
        return 6
    if way == "crash":
        sys.stderr.write("Segmentation fault, or so\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if way == "silent":
        return 0
    if way == "memory":
        kept = bytearray(400_000_000)
        kept[::4096] = b"x" * len(kept[::4096])
        time.sleep(60)
    if way == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if way.startswith("sleep"):
        time.sleep(float(way[5:]))
    if way.startswith("wait"):  # until the test says so
        while not Path(way[4:]).exists():
            time.sleep(0.02)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(template, out)
    sys.stdout.write(json.dumps({"bundle": str(out)}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
