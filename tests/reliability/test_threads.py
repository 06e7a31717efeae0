"""Threads share one Runtime; neither the locale nor the clock matters; and the scripts of reliability.md run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle

from xxdeploy.runtime import load

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> Any:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return module


FUZZ, SOAK = script("fuzz"), script("soak")


@pytest.mark.parametrize("target", [name for name in FUZZ.SHARES if name != "bomb"])
def test_malformed_inputs(target: str, tmp_path: Path) -> None:
    """A small share of what scripts/fuzz.py does, in this process."""
    targets = FUZZ.Targets(tmp_path, seed=1)
    hints = []
    for index in range(40):
        try:
            getattr(targets, f"{target}_input")(index)
        except FUZZ.XXDeployError as error:
            hints.append(error.hint)
    assert all(hints)
    assert len(hints) >= 20


def test_answers_of_many_threads_are_the_same(tmp_path: Path) -> None:
    runtime = load(tiny_bundle.make(tmp_path / "b"), threads=1)
    side = SOAK.Side(SOAK.calls(runtime)[0], 8)
    for _ in range(2):
        side.burst(0.2)
    assert side.wrong == 0
    assert side.calls > 16
    assert 0 < side.percentile(0.5) <= side.percentile(0.99)


def test_a_worker_sees_a_wrong_answer(tmp_path: Path) -> None:
    runtime = load(tiny_bundle.make(tmp_path / "b"), threads=1)
    stop = threading.Event()
    image = np.zeros((8, 8, 3), np.uint8)
    worker = SOAK.Worker(
        lambda _: runtime.probabilities(image), [runtime.probabilities(image) + 1], stop, np.zeros(9, np.int64)
    )
    worker.start()
    stop.wait(0.2)
    stop.set()
    worker.join()
    assert worker.wrong > 0


@pytest.mark.parametrize(
    "changed", [{"LC_ALL": "C"}, {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}, {"TZ": "Pacific/Apia"}]
)
def test_locale_and_clock_change_nothing(changed: dict[str, str], tmp_path: Path) -> None:
    """A process in another locale, without UTF-8 mode, packs the same bytes and reads them."""
    code = (
        "import locale, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "try: locale.setlocale(locale.LC_ALL, '')\n"
        "except locale.Error: pass\n"
        "import tiny_bundle; from xxdeploy.runtime import load\n"
        "bundle = tiny_bundle.make(Path(sys.argv[2]))\n"
        "load(bundle, selftest=True)\n"
    )
    command = [sys.executable, "-X", "utf8=0", "-c", code, str(Path(tiny_bundle.__file__).parent), str(tmp_path / "b")]
    subprocess.run(command, env={**os.environ, **changed}, check=True, timeout=60)
    here = tiny_bundle.make(tmp_path / "here")
    for path in here.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(here)).read_bytes()
