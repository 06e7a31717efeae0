"""Which of ONNX Runtime's providers run here: tried, not read from a list."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from xxdeploy.errors import EngineError
from xxdeploy.runtime.engines import providers
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.runtime.engines.providers import DOUBLING, PROVIDERS, probe_providers, session_in


def test_the_graph_is_what_its_comment_says() -> None:
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[n, 1] x) => (float[n, 1] y) { y = Add(x, x) }'
    written = onnx.parser.parse_model(text)
    written.graph.node[0].name = ""  # the parser gives one
    assert written.SerializeToString() == DOUBLING


def test_the_real_library_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    probes = probe_providers(onnxruntime)
    assert [probe.name for probe in probes] == list(PROVIDERS)
    for probe in probes:
        if probe.problem is None:
            continue  # a machine with a GPU
        with pytest.raises(EngineError) as caught:
            OrtSession(DOUBLING, provider=probe.name)
        assert caught.value.code == "provider-unusable"
        assert probe.problem in caught.value.message
    assert capfd.readouterr() == ("", "")


class Ort:
    """An onnxruntime with a GPU whose provider works, falls back, adds wrongly, or fails."""

    __version__ = "1.99"
    SessionOptions = SimpleNamespace

    def __init__(self, behavior: str) -> None:
        self.behavior, self.registered = behavior, list[str]()
        self.severity: list[int] = []

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def set_default_logger_severity(self, level: int) -> None:
        self.severity.append(level)

    def get_ep_devices(self) -> list[Any]:
        return [SimpleNamespace(ep_name=name) for name in self.registered if self.behavior != "no GPU"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        if self.behavior == "fails":
            raise Exception(f"cannot load {path}\nand more")  # as onnxruntime's own
        assert name not in self.registered
        self.registered.append(name)

    def InferenceSession(self, _model: bytes, options: Any, **given: Any) -> Any:  # noqa: N802
        if self.behavior == "raises":
            raise RuntimeError("Please install TensorRT")
        answer = 7.0 if self.behavior == "adds wrongly" else 6.0
        used = ["CPUExecutionProvider"] if self.behavior == "falls back" else list(given.get("providers", ["plugin"]))
        assert "providers" in given or options.devices
        return SimpleNamespace(get_providers=lambda: used, run=lambda *_: [np.full((1, 1), answer, np.float32)])


def options() -> Any:
    found = SimpleNamespace(devices=[])
    found.add_provider_for_devices = lambda devices, _: found.devices.extend(devices)
    return found


@pytest.mark.parametrize(
    ("behavior", "said"),
    [
        ("works", None),
        ("falls back", "missing or of another version"),
        ("raises", "missing or of another version"),
        ("adds wrongly", "3 + 3 is 7.0 there"),
    ],
)
def test_cuda_by_what_it_does(behavior: str, said: str | None) -> None:
    ort = Ort(behavior)
    state = probe_providers(ort)[0]
    assert (state.problem is None) if said is None else (said in str(state.problem))
    assert ort.severity == [4, 2]  # quiet while it is tried, and as before afterwards


def test_what_this_wheel_was_not_made_with() -> None:
    assert probe_providers(Ort("works"))[1].problem == "this wheel of onnxruntime has no such provider"
    with pytest.raises(EngineError, match="there is none of that name"):
        session_in(Ort("works"), DOUBLING, options(), "rocm")


@pytest.mark.parametrize(
    ("behavior", "said"), [("works", None), ("no GPU", "it finds no GPU"), ("fails", "cannot load /lib/ep.so")]
)
def test_the_plugin_is_registered_once(behavior: str, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin: Any = ModuleType(providers._PLUGIN)
    plugin.get_ep_name, plugin.get_library_path = lambda: "nv", lambda: "/lib/ep.so"
    monkeypatch.setitem(sys.modules, providers._PLUGIN, plugin)
    ort = Ort(behavior)
    if said is None:
        for _ in range(2):
            assert session_in(ort, DOUBLING, options(), "tensorrt-rtx").run()[0] == 6
        return
    with pytest.raises(EngineError) as caught:
        session_in(ort, DOUBLING, options(), "tensorrt-rtx")
    assert caught.value.message.endswith(said)


def test_without_the_plugin_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, providers._PLUGIN, None)
    with pytest.raises(EngineError, match="needs onnxruntime-ep-nv-tensorrt-rtx"):
        session_in(Ort("works"), DOUBLING, options(), "tensorrt-rtx")


@pytest.mark.gpu
def test_cuda_computes_what_the_processor_does() -> None:
    if (problem := probe_providers(onnxruntime)[0].problem) is not None:
        pytest.skip(f"no CUDA provider: {problem}")
    batch = np.arange(5, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(OrtSession(DOUBLING, provider="cuda").run(batch), 2 * batch)
