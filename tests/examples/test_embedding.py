"""The examples of docs/how-to/embed.md, as a user runs them."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime import load

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


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


@pytest.fixture
def service() -> Any:
    """The module of the HTTP example."""
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("httpx", reason="httpx, which talks to the service, is not installed")
    spec = importlib.util.spec_from_file_location("http_service", EXAMPLES / "http_service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_http_service_answers_with_classes_and_blames_the_right_side(
    bundle: Path, frames: Path, service: Any
) -> None:
    import anyio
    import httpx

    async def chunks() -> AsyncIterator[bytes]:  # without a length in the header
        for _ in range(12):
            yield bytes(1_000_000)

    async def talk() -> None:
        transport = httpx.ASGITransport(app=service.create_app(str(bundle)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            health = (await client.get("/health")).json()
            assert health == {"bundle": "tiny-0", "variant": "portable", "version": None}
            content = (frames / "frame-0.png").read_bytes()
            classes = (await client.post("/predict", content=content)).json()["classes"]
            best = load(bundle, threads=1).predict(frames / "frame-0.png")
            assert [label["label"] for label in classes] == [prediction.label for prediction in best]
            for bad, status in (
                (b"", 400),
                (b"no picture", 400),
                (content[:-60], 400),
                (bytes(service.MAX_BYTES + 1), 413),
                (chunks(), 413),
                (_png_of(6000, 6000), 413),
            ):
                answer = await client.post("/predict", content=bad)
                assert (answer.status_code, "error" in answer.json()) == (status, True)
            form = await client.post("/predict", files={"file": content})
            assert (form.status_code, form.json()["error"]) == (415, "form-data")
            assert "--data-binary @cat.jpg" in form.json()["hint"]

    anyio.run(talk)


def _png_of(width: int, height: int) -> bytes:
    """Return a small file of a picture of many pixels."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "png")
    return file.getvalue()


def test_a_fault_of_the_http_service_is_not_the_clients(bundle: Path, frames: Path, service: Any) -> None:
    runtime = load(bundle)
    runtime.close()
    answer = service.answer(runtime, (frames / "frame-0.png").read_bytes())
    assert (answer.status_code, answer.body) == (500, b'{"error":"closed"}')


def test_the_http_service_does_not_start_with_a_broken_bundle(bundle: Path, tmp_path: Path, service: Any) -> None:
    import tiny_bundle

    (bundle / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes()[:-1] + b"?")
    command = [sys.executable, str(EXAMPLES / "http_service.py"), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    assert done.returncode == 7
    assert done.stderr.startswith("error[file-hash]: model.onnx")
    with pytest.raises(UsageError) as caught:
        service.create_app(str(tiny_bundle.make(tmp_path / "features", features=True)))
    assert caught.value.code == "wrong-task"
