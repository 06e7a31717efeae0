"""One subject of ``peers.py`` in a separate process: it loads, replies, and waits for the next command.

Commands are lines of JSON on stdin, replies are lines of JSON on stdout. The subjects of a run are interleaved, and a
subject sleeps until it gets a command. Each peer has the preprocessing that its user would write; a result is the top-5
of one decoded uint8 image.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Answer = Callable[[Image], "list[int]"]


_CAFFE_MEAN = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)
MODES: dict[str, Callable[[Image], NDArray[np.float32]]] = {
    "tf": lambda image: (image[np.newaxis].astype(np.float32) / 127.5) - 1.0,
    "caffe": lambda image: np.ascontiguousarray(image[np.newaxis, ..., ::-1]).astype(np.float32) - _CAFFE_MEAN,
    "torch": lambda image: (image[np.newaxis].astype(np.float32) / 255.0 - _TORCH_MEAN) / _TORCH_STD,
}
"""The lines of numpy that the documentation of Keras' modes comes down to: a batch (1, h, w, 3) float32."""
scaled = MODES["tf"]
"""What this process uses: ``main`` picks it by the network's mode."""


def best(scores: Any) -> list[int]:
    """Return the five best classes."""
    flat = np.asarray(scores, np.float32).reshape(-1)  # minus uint8 would wrap
    return [int(index) for index in np.argsort(-flat, kind="stable")[:5]]


def keras(file: str, threads: int | None) -> Answer:
    """Keras as it is saved, in TensorFlow."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = tf.keras.models.load_model(file, compile=False)
    call = tf.function(model, reduce_retracing=True)
    return lambda image: best(call(scaled(image), training=False))


def onnxruntime(file: str, threads: int | None) -> Answer:
    """ONNX Runtime with its defaults."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if threads:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: best(session.run(None, {name: scaled(image)})[0])


def openvino(file: str, threads: int | None, *, hint: str = "f32") -> Answer:
    """OpenVINO for latency; ``hint`` is the precision of float layers."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(file)
    model.reshape([1, *(dim.get_length() for dim in list(model.inputs[0].get_partial_shape())[1:])])
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda image: best(request.infer({0: scaled(image)}, share_inputs=True)[0])


def litert(file: str, threads: int | None) -> Answer:
    """LiteRT with XNNPACK, the default of its interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file, num_threads=threads or len(os.sched_getaffinity(0)))
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    whole = into["dtype"] != np.float32

    def answer(image: Image) -> list[int]:
        batch: NDArray[Any] = scaled(image)
        if whole:
            scale, zero = into["quantization"]
            kind = np.iinfo(into["dtype"])
            batch = np.clip(np.round(batch / scale + zero), kind.min, kind.max).astype(into["dtype"])
        interpreter.set_tensor(into["index"], batch)
        interpreter.invoke()
        return best(interpreter.get_tensor(out["index"]))

    return answer


def xxdeploy(file: str, threads: int | None, *, engine: str | None = None, tuned: bool = False) -> Answer:
    """A bundle of xxdeploy: in an engine, or with the choice of `tune`. For one thread, `tune` gets one core."""
    from xxdeploy.runtime import load

    everywhere = os.sched_getaffinity(0)
    if tuned and threads:
        os.sched_setaffinity(0, set(sorted(everywhere)[:threads]))
    runtime = load(file, tuning="measure") if tuned else load(file, threads=threads, engine=engine, tuning="off")
    os.sched_setaffinity(0, everywhere)
    return lambda image: [each.index for each in runtime.predict(image)]


SUBJECTS: dict[str, Callable[..., Answer]] = {
    each.__name__: each for each in (keras, onnxruntime, openvino, litert, xxdeploy)
}


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Load the subject of the first argument, then serve."""
    global scaled
    asked = json.loads(sys.argv[1])
    scaled = MODES[asked["mode"]]
    talk = os.fdopen(os.dup(1), "w")  # libraries print to stdout
    os.dup2(2, 1)
    images: NDArray[np.uint8] = np.load(asked["images"], mmap_mode="r")
    answer = SUBJECTS[asked["kind"]](asked["file"], asked["threads"], **asked["options"])
    first = np.array(images[0])
    answer(first)
    reply: Any = {"memory": peak_memory()}
    while True:
        print(json.dumps(reply), file=talk, flush=True)
        command = json.loads(sys.stdin.readline() or "null")
        if command is None:
            return
        if command == "classes":
            reply = [answer(np.array(image))[0] for image in images]
            continue
        times = []
        for _ in range(int(command)):
            begin = time.perf_counter()
            answer(first)
            times.append(time.perf_counter() - begin)
        reply = times


if __name__ == "__main__":
    main()
