"""Build the sdist and from it the wheel, install ``[edge]`` in a fresh environment, predict, and measure the size.

    python scripts/check_wheel.py [BUNDLE IMAGE]

Without a bundle, the script makes the smallest one of the tests. pip downloads the dependencies. The exit status is 1
if a step fails, or if ``[edge]`` without onnxruntime and pip takes more than 120 MB.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEGABYTES = 120
_NOT_OURS = ("onnxruntime", "pip", "setuptools")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return its output; its errors go to stderr."""
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def build(folder: Path) -> Path:
    """Build the sdist from the checkout and the wheel from the sdist; return the wheel."""
    environment = folder / "build-env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "hatchling")
    run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "sdist", filter="data")
    run(python, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=next((folder / "sdist").iterdir()))
    return next(folder.glob("*.whl"))


def weigh(site: Path) -> dict[str, float]:
    """Return the size of each top-level package in megabytes; ``numpy.libs`` and the like count for their package."""
    sizes: dict[str, float] = {}
    for path in site.rglob("*"):
        if path.is_file():
            name = path.relative_to(site).parts[0].partition(".")[0].partition("-")[0].lower()
            sizes[name] = sizes.get(name, 0.0) + path.stat().st_size / 1e6
    return sizes


def small_example(folder: Path) -> tuple[Path, Path]:
    """Return a bundle of a kilobyte, and an image."""
    from PIL import Image

    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    import tiny_bundle

    Image.new("RGB", (20, 16), (200, 30, 90)).save(folder / "picture.png")
    return tiny_bundle.make(folder / "bundle"), folder / "picture.png"


def main(*example: str) -> int:
    """Build, install, predict, measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, picture = map(Path, example) if example else small_example(folder)
        wheel = build(folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        environment = folder / "edge"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", f"{wheel}[edge]")
        code = (
            "import sys; from xxdeploy.runtime import load\n"
            "print(load(sys.argv[1], selftest=True).predict(sys.argv[2])[0])"
        )
        print(run(python, "-P", "-c", code, bundle.resolve(), picture.resolve(), cwd=folder).strip())
        sizes = weigh(next(environment.glob("lib/python*/site-packages")))
        ours = sum(size for package, size in sizes.items() if package not in _NOT_OURS)
        for package, size in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
            print(f"  {package} {size:.1f} MB")
        print(f"[edge] without onnxruntime: {ours:.1f} MB (at most {MEGABYTES})")
        return int(ours > MEGABYTES)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
