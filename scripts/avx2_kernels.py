"""Copy onnxruntime and disable its kernels for VNNI and AVX512, to run and time the AVX2 kernels at full speed.

    python scripts/avx2_kernels.py FOLDER
    PYTHONPATH=FOLDER xxdeploy bench BUNDLE OTHER --engine onnxruntime --threads 1

`qemu_avx2.py` emulates an AVX2 processor, at about a second an image; this script runs the same kernels natively.
onnxruntime (MLAS) selects kernels in one function by `cpuid`. In the copy, the tests of the bits for AVX-VNNI, AVX512F
and AVX-VNNI-INT8 are changed so that they always fail. The script then checks that 16-bit sums saturate. x86-64 Linux.
The exit status is 1 if this build of onnxruntime has other tests.

xxdeploy still detects a processor with VNNI: export bundles with `--cpu avx2`, or load them with
`load(BUNDLE, variant="int8-avx2")`. The copy is for measurements only, and is not part of a release.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

CPUID, REACH = b"\x0f\xa2", 0x700
"""The instruction, and the bytes after it that contain the tests of the processor's bits."""
TESTS = {
    "AVX-VNNI": (b"\xa8\x10\x74", b"\xa8\x00\x74"),  # test al, 0x10; je
    "AVX512F": (b"\x41\xf7\xc2\x00\x00\x01\x00", b"\x41\xf7\xc2\x00\x00\x00\x00"),  # test r10d, 0x10000
    "AVX-VNNI-INT8": (b"\xf6\xc2\x10\x74", b"\xf6\xc2\x00\x74"),  # test dl, 0x10; je
}
PROBE = """
import numpy as np, onnxruntime as ort
from onnx import TensorProto as T, helper as h
value = h.make_tensor_value_info
nodes = [h.make_node("MatMulInteger", ["a", "b"], ["y"])]
graph = h.make_graph(nodes, "g", [value("a", T.UINT8, [8, 64])], [value("y", T.INT32, [8, 64])],
                     [h.make_tensor("b", T.INT8, [64, 64], [127] * 4096)])
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
print(int(session.run(None, {"a": np.full((8, 64), 255, np.uint8)})[0][0, 0]) != 255 * 127 * 64)
"""


def switch_off(data: bytearray) -> int:
    """Change every function that has all three tests; return how many there are."""
    starts = [found.start() for found in re.finditer(CPUID, data)]
    changed = 0
    for start in starts:
        part = bytes(data[start : start + REACH])
        if not all(old in part for old, _ in TESTS.values()):
            continue
        for old, new in TESTS.values():
            part = part.replace(old, new)
        data[start : start + REACH] = part
        changed += 1
    return changed


def main() -> int:
    """Make the copy and check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder for the copy of `onnxruntime`, which must not exist there")
    folder: Path = parser.parse_args().folder
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None or (folder / "onnxruntime").exists():
        print(f"onnxruntime is not installed, or {folder / 'onnxruntime'} already exists", file=sys.stderr)
        return 1
    gpu = shutil.ignore_patterns("libonnxruntime_providers_*")
    shutil.copytree(Path(spec.origin).parent, folder / "onnxruntime", ignore=gpu)
    (library,) = (folder / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so")
    data = bytearray(library.read_bytes())
    changed = switch_off(data)
    library.write_bytes(data)
    found = {**os.environ, "PYTHONPATH": str(folder.resolve())}
    said = subprocess.run([sys.executable, "-c", PROBE], env=found, capture_output=True, text=True, check=False)
    if not changed or said.stdout.strip() != "True":
        print(f"{changed} tests changed, but sums do not saturate: {said.stdout}{said.stderr[-500:]}", file=sys.stderr)
        return 1
    print(f"{changed} tests changed; 16-bit sums saturate. PYTHONPATH={folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
