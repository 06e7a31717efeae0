"""The emulation of AVX2 against execution on an emulated Haswell, integer for integer."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from quantnets import batches, images, residual, run
from satnets import CASES, conv_arrays, conv_input, conv_model, integers_of

from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize import calibrate, quantize, scheme
from xxdeploy.quantize.x86.saturation import emulate_avx2

EXECUTE = """
import sys, numpy, onnxruntime
found = {}
for name, path, data in zip(sys.argv[2::3], sys.argv[3::3], sys.argv[4::3]):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found[name] = session.run(None, {session.get_inputs()[0].name: numpy.load(data)})[0]
numpy.savez(sys.argv[1], **found)
"""


@pytest.mark.slow
def test_the_emulation_is_what_a_haswell_computes(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-x86_64")
    if qemu is None or platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("qemu-x86_64 is absent (Debian: apt-get install qemu-user), or this is no x86-64 Python")
    jobs = {str(index): (conv_model(case), conv_input(case)) for index, case in enumerate(CASES)}
    network = residual()
    ranges = calibrate(network, batches(images()), data_digest="images")
    jobs["network"] = quantize(network, ranges, scheme("static-w8c-a8")), images(16, seed=2)
    executed = _execute(qemu, jobs, tmp_path)
    for index, case in enumerate(CASES):
        emulated = run(emulate_avx2(jobs[str(index)][0]), conv_input(case))
        arrays = conv_arrays(case)
        np.testing.assert_array_equal(
            integers_of(executed[str(index)], arrays), integers_of(emulated, arrays), str(case)
        )
    model, batch = jobs["network"]
    assert np.abs(executed["network"] - run(model, batch)).max() > 1e-3  # it does saturate
    np.testing.assert_allclose(executed["network"], run(emulate_avx2(model), batch), atol=1e-6)  # Softmax is float


def _execute(qemu: str, jobs: dict[str, tuple[OnnxModel, np.ndarray]], folder: Path) -> dict[str, np.ndarray]:
    """Run the models under qemu, all in one process."""
    words = []
    for name, (model, batch) in jobs.items():
        (folder / f"{name}.onnx").write_bytes(model.to_bytes())
        np.save(folder / f"{name}.npy", batch)
        words += [name, str(folder / f"{name}.onnx"), str(folder / f"{name}.npy")]
    command = [qemu, "-cpu", "Haswell,-hle,-rtm,-invpcid", sys.executable, "-c", EXECUTE, str(folder / "out.npz")]
    subprocess.run([*command, *words], check=True, capture_output=True, timeout=300)
    return dict(np.load(folder / "out.npz"))
