"""A bundle that was loaded before a fork, in real child processes."""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.errors import UsageError
from xxdeploy.runtime import load

START = """
import os, signal, sys, threading
import numpy as np
from xxdeploy.errors import UsageError
from xxdeploy.runtime import load

picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
runtime = load(sys.argv[1], engine=sys.argv[2], threads=2)
expected = runtime.probabilities([picture] * 3)

def child(use):
    signal.alarm(60)  # a hang is a failure
    use()
    sys.stdout.write("ended ")
    sys.exit(7)  # the end of Python is part of the test

def fork(use):
    process = os.fork()
    if process == 0:
        child(use)
    status = os.waitpid(process, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)

def answer():
    assert np.array_equal(runtime.probabilities([picture] * 3), expected)
"""


def run(code: str, bundle: Path, engine: str = "onnxruntime") -> str:
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    command = [sys.executable, "-W", "ignore", "-c", START + code, str(bundle), engine]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.make(tmp_path_factory.mktemp("forks") / "b")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_forked_process_answers_and_ends(bundle: Path, engine: str) -> None:
    code = "fork(answer); fork(lambda: None); fork(runtime.close); fork(lambda: fork(answer)); answer()"
    assert run(code, bundle, engine).split() == ["ended", "7", "ended", "7", "ended", "7", "ended", "7", "ended", "7"]


def test_a_fork_while_another_thread_runs(bundle: Path) -> None:
    code = """
stop = threading.Event()
def busy():
    while not stop.is_set():
        runtime.probabilities([picture] * 3)
thread = threading.Thread(target=busy)
thread.start()
for _ in range(5):
    fork(answer)
stop.set()
thread.join()
"""
    assert run(code, bundle).split() == ["ended", "7"] * 5


def test_threads_of_a_child_start_one_engine(bundle: Path) -> None:
    code = """
def several():
    threads = [threading.Thread(target=answer) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    answer()
fork(several)
"""
    assert run(code, bundle).split() == ["ended", "7"]


def test_a_session_that_cannot_start_again_says_so(bundle: Path) -> None:
    code = """
def refused():
    runtime.session.model_again = None
    try:
        answer()
    except UsageError as error:
        print(error.code, "load() in each process" in error.hint)
fork(refused)
"""
    assert run(code, bundle).split() == ["other-process", "True", "ended", "7"]


def test_a_changed_file_is_not_loaded_in_the_child(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    code = """
from pathlib import Path
from xxdeploy.errors import BundleError
model = next(Path(sys.argv[1]).glob("*.onnx"))
model.write_bytes(model.read_bytes()[:-1] + b"x")
def refused():
    try:
        answer()
    except BundleError as error:
        print(error.code)
fork(refused)
"""
    assert run(code, bundle).split() == ["file-hash", "ended", "7"]


def test_a_runtime_is_not_pickled(bundle: Path) -> None:
    with load(bundle) as runtime, pytest.raises(UsageError) as caught:
        pickle.dumps(runtime)
    assert caught.value.code == "other-process"
    assert "load() in each process" in caught.value.hint
