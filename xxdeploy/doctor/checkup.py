"""The checks of ``xxdeploy doctor``. A broken library is a finding, never an error."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xxdeploy import __version__
from xxdeploy.cores import count_cores
from xxdeploy.cpu import cpuinfo
from xxdeploy.doctor import probe
from xxdeploy.doctor.troubles import ILLEGAL, Processor, Warning, ending, illegal_instruction, missing_folders
from xxdeploy.files import child_python
from xxdeploy.optional import remedy_for

TIMEOUT = 120.0  # seconds for all imports; TensorFlow takes 4 on two cores, and ten times that from a cold disk

# Module and the extra that brings it. onnxruntime comes as one of several distributions.
LIBRARIES: Mapping[str, str] = {
    "numpy": "edge",
    "PIL": "edge",
    "onnxruntime": "edge",
    "openvino": "openvino",
    "cyclopts": "cli",
    "rich": "cli",
    "onnx": "export",
    "tensorflow": "export",
    "keras": "export",
    "tf2onnx": "export",
}


@dataclass(frozen=True, slots=True)
class Library:
    """One library: ``state`` is ``ok``, ``missing`` or an error; the extra ``extra`` installs it."""

    name: str
    version: str
    state: str
    extra: str


@dataclass(frozen=True, slots=True)
class Checkup:
    """All findings.

    ``cores`` are the processors that this process may use; ``threads`` says what limits the threads of an inference.
    ``engines`` has a sentence on each kind of TensorRT, ``providers`` on what ONNX Runtime runs on; ``weights`` are
    the files of weights in Keras' cache, ``keras_home``.
    """

    xxdeploy: str
    python: str
    platform: str
    cores: int
    threads: str
    cpu_features: tuple[str, ...]
    libraries: tuple[Library, ...]
    providers: tuple[str, ...]
    engines: tuple[str, ...]
    keras_home: Path
    weights: tuple[str, ...]
    warnings: tuple[Warning, ...]


def check_up(*, timeout: float = TIMEOUT) -> Checkup:
    """Check Python, the processor, the libraries and Keras' cache; ``timeout`` is in seconds for each child process."""
    facts, limits = dict(_probe(list(LIBRARIES), timeout)), count_cores()
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    libraries = tuple(
        Library(name, str(facts[name].get("version", "")), str(facts[name]["error"] or "ok"), extra)
        for name, extra in LIBRARIES.items()
    )
    return Checkup(
        xxdeploy=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        cores=limits.usable,
        threads=str(limits),
        cpu_features=_cpu_features(),
        libraries=libraries,
        providers=("cpu: works", *_providers(timeout)) if facts["onnxruntime"]["error"] is None else (),
        engines=engine_states(timeout),
        keras_home=keras_home,
        weights=_weights(keras_home),
        warnings=tuple(_warnings(libraries, keras_home)),
    )


def _probe(modules: Sequence[str], timeout: float) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Import the modules in a child process; if a module kills it, continue with the next in another child."""
    waiting = list(modules)
    while waiting:
        try:
            child = _run(timeout, str(probe.__file__), *waiting, TF_CPP_MIN_LOG_LEVEL="3")
            output, end = child.stdout, ending(child.returncode)
        except subprocess.TimeoutExpired as error:
            raw = error.stdout or b""
            output = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
            end = f"importing it took more than {timeout:.0f} s"
        except OSError as error:
            output, end = "", f"cannot start {sys.executable}: {error}"
        for line in output.splitlines():
            facts = _facts(line)
            if facts is not None and facts["module"] in waiting:
                waiting.remove(str(facts["module"]))
                yield str(facts["module"]), facts
        if waiting:
            yield waiting[0], {"error": end}
            del waiting[0]


def _run(timeout: float, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the arguments and environment variables, and capture its output."""
    command, environment = child_python(*arguments, **variables)
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
    )


def _facts(line: str) -> dict[str, object] | None:
    """Parse a line of the probe; return None for a line printed by a library."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "module" in value and "error" in value else None


def engine_states(timeout: float = TIMEOUT) -> tuple[str, ...]:
    """Return a sentence on each kind of TensorRT from a child process, which a driver of a wrong version may kill."""
    return _asked(
        "from xxdeploy.engine.library import PLANS, explain\nfor target in PLANS: print(explain(target))", timeout
    )


def _providers(timeout: float) -> tuple[str, ...]:
    """Try ONNX Runtime's GPU providers in a child process: a provider listed by the wheel may not work."""
    return _asked(
        "import onnxruntime\n"
        "from xxdeploy.runtime.engines.providers import probe_providers\n"
        "note = 'experimental: never run on a card'\n"
        "for probe in probe_providers(onnxruntime): print(f'{probe.name} ({note}): {probe.problem or \"works\"}')",
        timeout,
    )


def _asked(code: str, timeout: float) -> tuple[str, ...]:
    """Run code in a child process and return the lines that it prints."""
    try:
        child = _run(timeout, "-c", code)
    except (subprocess.TimeoutExpired, OSError) as error:
        return (f"unknown: {error}",)
    lines = tuple(line for line in child.stdout.splitlines() if line)
    return lines if child.returncode == 0 else (*lines, f"Python died with status {child.returncode} while asking")


def _cpu_features() -> tuple[str, ...]:
    try:
        from xxdeploy.cpu import cpu_features

        return tuple(sorted(cpu_features()))
    except Exception as error:  # noqa: BLE001 - a finding, not an error
        return (f"unknown ({error})",)


def _weights(keras_home: Path) -> tuple[str, ...]:
    try:
        paths = sorted((keras_home / "models").iterdir())
        return tuple(path.name for path in paths if path.suffix in (".h5", ".keras"))
    except OSError:
        return ()


def _warnings(libraries: Sequence[Library], keras_home: Path) -> Iterator[Warning]:
    runtimes = sorted(
        {
            name
            for distribution in importlib.metadata.distributions()
            if (name := str(distribution.metadata["Name"]).lower().replace("_", "-")).startswith("onnxruntime")
            and not name.startswith(("onnxruntime-ep", "onnxruntime-extensions", "onnxruntime-genai"))
        }
    )
    if len(runtimes) > 1:
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in runtimes else runtimes[0]
        yield Warning(
            f"{' and '.join(runtimes)} are both installed into the same folder, so it is undefined which one runs",
            f"pip uninstall -y {' '.join(runtimes)} && pip install --no-deps {keep}",
        )
    for library in libraries:
        if library.state == ILLEGAL:
            here = Processor(platform.machine(), cpuinfo())
            yield illegal_instruction(library.name, _installed_version(library.name), here)
        elif library.state not in ("ok", "missing"):
            yield Warning(
                f"{library.name} is installed, but its import fails: {library.state}",
                remedy_for(library.state)
                or f"reinstall it, or use a fresh environment: pip install 'xxdeploy[{library.extra}]'",
            )
    yield from missing_folders()
    if not _writable(keras_home):
        yield Warning(
            f"Keras cannot write its cache in {keras_home}, so ImageNet weights cannot be downloaded",
            "set KERAS_HOME to a folder that you can write to",
        )


def _installed_version(name: str) -> str:
    """Return the version of a library that cannot be imported, empty if it is unknown."""
    try:
        return importlib.metadata.version({"PIL": "pillow"}.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _writable(folder: Path) -> bool:
    """Return whether ``folder``, or its nearest existing parent, is writable."""
    places = (folder, *folder.absolute().parents)
    nearest = next((place for place in places if place.exists()), None)
    return nearest is not None and os.access(nearest, os.W_OK)
