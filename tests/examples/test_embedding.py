"""The examples of docs/embed.md, as a user runs them."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
from PIL import Image

from xxdeploy.runtime import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny_bundle.make(tmp_path / "tiny")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"frame-{index}.png")
    (folder / "frame-9.png").write_bytes(b"half a frame")
    return folder


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return done.stdout


def test_the_camera_loop_takes_the_newest_frame_and_survives_a_bad_one(bundle: Path, frames: Path) -> None:
    assert run("camera_loop.py", bundle, frames, "--stop-after", 1) == "frame-9.png: image-format\n"
    (frames / "frame-9.png").unlink()
    best = load(bundle).predict(frames / "frame-2.png", top=1)[0]
    told = run("camera_loop.py", bundle, frames, "--stop-after", 1)
    assert told == f"frame-2.png: {best.label} {best.probability:.3f}\n"


def test_batches_of_files(bundle: Path, frames: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("batch_files.py", bundle, frames))))
    assert {row["file"]: row["error"] for row in rows} == {
        "frame-0.png": "", "frame-1.png": "", "frame-2.png": "", "frame-9.png": "image-format",
    }  # fmt: skip
    best = load(bundle).predict(frames / "frame-1.png", top=1)[0]
    row = next(row for row in rows if row["file"] == "frame-1.png")
    assert (row["class"], row["probability"]) == (best.label, f"{best.probability:.4f}")


def test_the_http_service(bundle: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("httpx", reason="httpx, which Starlette's test client needs, is not installed")
    import anyio
    import httpx

    spec = importlib.util.spec_from_file_location("http_service", EXAMPLES / "http_service.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("XXDEPLOY_BUNDLE", str(bundle))

    async def talk() -> None:
        transport = httpx.ASGITransport(app=module.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            health = (await client.get("/health")).json()
            assert health == {"bundle": "tiny-0", "variant": "portable", "version": None}
            data = (frames / "frame-0.png").read_bytes()
            classes = (await client.post("/predict", content=data)).json()["classes"]
            best = load(bundle, threads=1).predict(frames / "frame-0.png")
            assert [each["label"] for each in classes] == [each.label for each in best]
            for bad, status in (
                (b"", 400),
                (b"no picture", 400),
                (data[:-60], 400),
                (bytes(module.MAX_BYTES + 1), 413),
            ):
                answer = await client.post("/predict", content=bad)
                assert (answer.status_code, "error" in answer.json()) == (status, True)

    anyio.run(talk)


def test_cpp_through_the_c_api(bundle: Path, tmp_path: Path) -> None:
    """Needs a C++ compiler, and ONNX Runtime's headers and library (its release archive) in ``ORT_HOME``."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    home = os.environ.get("ORT_HOME")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    if home is None or not (Path(home) / "include" / "onnxruntime_c_api.h").is_file():
        pytest.skip("ORT_HOME names no ONNX Runtime with headers; its Python wheel brings none")
    program = tmp_path / "predict"
    source = EXAMPLES / "cpp" / "predict.cc"
    subprocess.run(
        [compiler, "-std=c++17", "-O1", "-Wall", "-Werror", f"-I{home}/include", str(source), f"-L{home}/lib",
         "-lonnxruntime", f"-Wl,-rpath,{home}/lib", "-o", str(program)], check=True,
    )  # fmt: skip
    files = [bundle / name for name in ("model.onnx", "golden/inputs.npy", "golden/portable.npy")]
    done = subprocess.run([program, *files, "tf", "1e-5"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("largest error ")
    wrong = subprocess.run([program, *files, "none", "1e-5"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
