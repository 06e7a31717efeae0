"""Build the sdist and from it the wheel, install it in fresh environments, and run there what a device runs.

    python scripts/check_wheel.py [BUNDLE IMAGE]

twine checks both files, and the package says the version of the wheel. Without any extra, each command names the one to
install. With ``[edge]``, the runtime, the device commands and the pytest plugin work, and the shipped photographs are
found. Without a bundle, the script makes the smallest one of the tests. pip downloads the dependencies. The exit status
is 1 if a step fails, if ``[edge]`` takes more than 120 MB without onnxruntime and pip, or if the libraries of the
command line take more than 25 MB in addition.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEGABYTES, COMMAND_LINE_MEGABYTES = 120, 25
_NOT_OURS = ("onnxruntime", "pip", "setuptools")
_COMMAND_LINE = (
    "cyclopts", "rich", "rich_rst", "docutils", "pygments", "markdown_it", "markdown_it_py", "mdurl", "attr", "attrs",
    "docstring_parser",
)  # fmt: skip
_DEVICE = (
    ("predict", "{bundle}", "{image}"),
    ("verify", "{bundle}"),
    ("tune", "{bundle}", "--budget", "1"),
    ("bench", "{bundle}"),
    ("doctor",),
)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return its output; its errors go to stderr."""
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def program(environment: Path, name: str) -> Path:
    """Return a program of a virtual environment."""
    return environment / "Scripts" / f"{name}.exe" if sys.platform == "win32" else environment / "bin" / name


def build(folder: Path) -> Path:
    """Build the sdist from the checkout and the wheel from the sdist, and check both; return the wheel."""
    environment = folder / "build-env"
    venv.create(environment, with_pip=True)
    python = program(environment, "python")
    run(python, "-m", "pip", "install", "-q", "hatchling", "hatch-vcs", "twine")
    run(python, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        # Python 3.11.0 to 3.11.3 (Debian 12) has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(folder / "sdist")
    run(python, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=next((folder / "sdist").iterdir()))
    wheel = next(folder.glob("*.whl"))
    run(python, "-m", "twine", "check", "--strict", wheel, next(folder.glob("*.tar.gz")))
    return wheel


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


def check_bare(folder: Path, wheel: Path) -> None:
    """Install the wheel without an extra; every device command must end with an error that names the extra."""
    environment = folder / "bare"
    venv.create(environment, with_pip=True)
    run(program(environment, "python"), "-m", "pip", "install", "-q", wheel)
    version = run(
        program(environment, "python"), "-P", "-c", "import xxdeploy; print(xxdeploy.__version__)", cwd=folder
    )
    if version.strip() != wheel.name.split("-")[1]:
        raise SystemExit(f"{wheel.name} says that its version is {version.strip()}")
    for command, *_ in _DEVICE:
        done = subprocess.run(
            [program(environment, "xxdeploy"), command], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 3 or "pip install 'xxdeploy[edge]'" not in done.stderr:
            raise SystemExit(f"without an extra, `xxdeploy {command}` ends with {done.returncode}: {done.stderr}")


def check_device(folder: Path, environment: Path, bundle: Path, image: Path) -> None:
    """Run the runtime, the device commands and the pytest plugin in an environment with ``[edge]``."""
    python = program(environment, "python")
    code = (
        "import sys; from xxdeploy.runtime import load\nprint(load(sys.argv[1], selftest=True).predict(sys.argv[2])[0])"
    )
    print(run(python, "-P", "-c", code, bundle, image, cwd=folder).strip())
    code = (
        "from xxdeploy.datasets import load_recipe, open_images; from xxdeploy.models.samples import shipped_set\n"
        "print(len(open_images(load_recipe(shipped_set('photos')).folder)), 'photographs')"
    )
    print(run(python, "-P", "-c", code, cwd=folder).strip())
    for words in _DEVICE:
        run(program(environment, "xxdeploy"), *(word.format(bundle=bundle, image=image) for word in words), cwd=folder)
    run(python, "-m", "pip", "install", "-q", "pytest")
    empty = folder / "empty"  # pytest would collect the tests of the sdist
    empty.mkdir()
    print(run(python, "-P", "-m", "pytest", "-q", f"--xxdeploy-bundle={bundle}", cwd=empty).strip().splitlines()[-1])


def main(*example: str) -> int:
    """Build, install, run, measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, picture = map(Path, example) if example else small_example(folder)
        wheel = build(folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        check_bare(folder, wheel)
        environment = folder / "edge"
        venv.create(environment, with_pip=True)
        run(program(environment, "python"), "-m", "pip", "install", "-q", f"{wheel}[edge]")
        sizes = weigh(next(environment.glob("[Ll]ib/**/site-packages")))
        commands = sum(size for package, size in sizes.items() if package in _COMMAND_LINE)
        ours = sum(size for package, size in sizes.items() if package not in _NOT_OURS) - commands
        for package, size in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
            print(f"  {package} {size:.1f} MB")
        print(f"[edge] without onnxruntime: {ours:.1f} MB (at most {MEGABYTES})")
        print(f"the libraries of the command line: {commands:.1f} MB (at most {COMMAND_LINE_MEGABYTES})")
        check_device(folder, environment, bundle.resolve(), picture.resolve())
        return int(ours > MEGABYTES or commands > COMMAND_LINE_MEGABYTES)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
