"""The examples of docs/how-to/embed.md, as a user runs them."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime import load
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.image.preprocess import Preprocess

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


def _cpp(folder: Path) -> Path:
    """Build the C++ example: headers of ``ORT_HOME`` or Debian's package, library of ``ORT_HOME`` or of the wheel."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    home = Path(os.environ.get("ORT_HOME", "/nowhere"))
    places = (home / "include", *(Path(root) / "include/onnxruntime" for root in (home, "/usr", "/usr/local")))
    headers = next((place for place in places if (place / "onnxruntime_c_api.h").is_file()), None)
    if headers is None:
        pytest.skip("no headers of ONNX Runtime in ORT_HOME or /usr/include/onnxruntime; its Python wheel has none")
    libraries = home / "lib"
    if not (libraries / "libonnxruntime.so").exists():
        import onnxruntime

        builds = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
        if not builds:
            pytest.skip("no libonnxruntime.so in ORT_HOME or in the Python wheel")
        libraries = folder / "lib"
        libraries.mkdir()
        for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # to link with, and what is then looked for
            (libraries / name).symlink_to(builds[-1])
    program = folder / "predict"
    subprocess.run(
        [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{headers}", EXAMPLES / "cpp" / "predict.cc",
         f"-L{libraries}", "-lonnxruntime", f"-Wl,-rpath,{libraries}", "-o", program], check=True,
    )  # fmt: skip
    return program


def test_cpp_through_the_c_api(bundle: Path, tmp_path: Path) -> None:
    program = _cpp(tmp_path)
    pixels = tmp_path / "pixels.onnx"  # takes bytes, as INT8 models for x86 do
    model = onnx.load(bundle / "model.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["floats"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    onnx.save(model, pixels)
    inputs, outputs, answers = (
        bundle / "golden" / "inputs.npy",
        bundle / "golden" / "portable.npy",
        tmp_path / "found",
    )
    images = np.load(inputs)

    def run_it(*words: object) -> tuple[int, str]:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def computed() -> NDArray[np.float32]:
        return np.fromfile(answers, "<f4").reshape(len(images), -1)

    status, told = run_it(bundle / "model.onnx", inputs, outputs, "tf", 1e-5)
    assert (status, told[:14]) == (0, "largest error ")
    for mode in ("tf", "caffe", "torch", "none"):
        status, told = run_it(bundle / "model.onnx", inputs, outputs, mode, 1e-5, answers)
        assert status == (mode != "tf"), told
        batch = Preprocess(8, 8, mode=mode).normalize(images)
        right = OrtSession((bundle / "model.onnx").read_bytes(), threads=1).run(batch)
        np.testing.assert_allclose(computed(), right, atol=1e-6)
    status, told = run_it(pixels, inputs, outputs, "ignored", 1e-5, answers)
    assert status == 1, told
    np.testing.assert_allclose(computed(), right, atol=1e-6)  # those of mode none
    assert run_it(bundle / "model.onnx", inputs, outputs, "custom", 1e-5)[0] == 2
    assert run_it(bundle / "model.onnx", inputs, inputs, "tf", 1e-5)[0] == 2
    model.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    onnx.save(model, pixels)
    status, told = run_it(pixels, inputs, outputs, "tf", 1e-5)
    assert (status, "several inputs" in told) == (2, True)
    np.save(tmp_path / "numbers.npy", images.astype(np.float32))
    assert run_it(bundle / "model.onnx", tmp_path / "numbers.npy", outputs, "tf", 1e-5)[0] == 2
    assert run_it(bundle / "labels.txt", inputs, outputs, "tf", 1e-5)[0] == 2
    assert run_it(bundle / "model.onnx", bundle / "labels.txt", outputs, "tf", 1e-5)[0] == 2
