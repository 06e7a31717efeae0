"""Build the C++ programs of examples/cpp, and judge xxdeploy.hpp by the conformance suite.

    python scripts/check_cpp.py [ENGINE ...] [--kinds plain sanitize native]

ENGINE is onnxruntime or litert (default: both). `sanitize` builds with -fsanitize=address,undefined, `native` with -O3
-march=native, where a compiler would fuse multiplications and additions. The libraries are those inside the Python
wheels of onnxruntime and ai-edge-litert; ORT_HOME names an unpacked release of ONNX Runtime instead. The compiler is
g++ or clang++. The exit status is 1 if an entry of the suite fails.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CPP = Path(__file__).resolve().parent.parent / "examples" / "cpp"
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror")
KINDS = {
    "plain": ("-O1",),
    "sanitize": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    "native": ("-O3", "-march=native"),
}
ENGINES = {"onnxruntime": ("XXDEPLOY_ONNXRUNTIME", "onnxruntime"), "litert": ("XXDEPLOY_LITERT", "LiteRt")}
"""The macro of xxdeploy.hpp and the name of the library, for each engine."""
_SANITIZER_SPOILS = ("-Wno-free-nonheap-object", "-Wno-maybe-uninitialized")
"""Warnings that GCC 12 gives for its own library when it instruments it."""


class MissingPartError(Exception):
    """A compiler, a library or a header is not there; the message says which one."""


def compiler() -> str:
    """Return the path of a C++ compiler."""
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise MissingPartError("there is no C++ compiler")
    return found


def headers() -> Path:
    """Return the folder of onnxruntime_c_api.h: in ORT_HOME, or where Debian's libonnxruntime-dev has it."""
    home = Path(os.environ.get("ORT_HOME", "/nowhere"))
    places = (home / "include", *(Path(root) / "include/onnxruntime" for root in (home, "/usr", "/usr/local")))
    found = next((place for place in places if (place / "onnxruntime_c_api.h").is_file()), None)
    if found is None:
        raise MissingPartError("no headers of ONNX Runtime in ORT_HOME or /usr/include/onnxruntime; its wheel has none")
    return found


def library(engine: str, folder: Path) -> Path:
    """Return a folder to link the library of ``engine`` from; ``folder`` gets links to that of the wheel."""
    home = Path(os.environ.get("ORT_HOME", "/nowhere")) / "lib"
    if engine == "onnxruntime" and (home / "libonnxruntime.so").exists():
        return home
    module, pattern = (
        ("onnxruntime", "capi/libonnxruntime.so.*") if engine == "onnxruntime" else ("ai_edge_litert", "libLiteRt.so")
    )
    spec = importlib.util.find_spec(module)
    builds = sorted(Path(spec.origin).parent.glob(pattern)) if spec is not None and spec.origin else []
    if not builds:
        raise MissingPartError(f"no library of {engine} in ORT_HOME or in the Python wheel")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1") if engine == "onnxruntime" else ("libLiteRt.so",):
        if not (folder / name).exists():
            (folder / name).symlink_to(builds[-1])
    return folder


def build(source: Path, engine: str, folder: Path, *options: str) -> Path:
    """Compile a program for an engine into ``folder``; return the executable."""
    macro, name = ENGINES[engine]
    libraries, out = library(engine, folder), folder / f"{source.stem}-{engine}"
    linked = [f"-L{libraries}", f"-l{name}", f"-Wl,-rpath,{libraries}"]
    command = [compiler(), *WARNINGS, f"-D{macro}", *options, f"-I{CPP}", str(source), *linked, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {source.name} does not compile for {engine}\n{done.stderr[-4000:]}")
    return out


def main() -> int:
    """Build and judge; return 1 if an entry fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="onnxruntime or litert; default: both")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(KINDS), help="default: all")
    asked = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, str(Path(__file__).with_name("make_conformance.py")), str(folder / "suite")], check=True
        )
        for engine in asked.engines or ENGINES:
            for kind in asked.kinds:
                quiet = _SANITIZER_SPOILS if kind == "sanitize" else ()
                program = build(CPP / "conformance.cc", engine, folder, *KINDS[kind], *quiet)
                done = subprocess.run([program, folder / "suite"], capture_output=True, text=True, timeout=900)
                lines = done.stdout.splitlines()
                wrong = [line for line in lines if line.startswith("not ok")]
                skipped = sum("# SKIP" in line for line in lines)
                passed = sum(line.startswith("ok") for line in lines) - skipped
                print(f"{engine}, {kind}: {passed} passed, {skipped} skipped, {len(wrong)} failed", flush=True)
                if done.returncode or wrong:
                    failed = True
                    print("\n".join(wrong[:20]), done.stderr[-3000:], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except MissingPartError as error:
        raise SystemExit(
            f"error: {error}\n hint: on Debian: apt-get install g++; pip install onnxruntime ai-edge-litert"
        ) from error
