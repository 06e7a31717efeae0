"""ONNX Runtime's execution providers for NVIDIA's GPUs, and which of them work here. Experimental: never run on a card.

``get_available_providers()`` lists the providers of the wheel. The CUDA and TensorRT providers of onnxruntime-gpu
need NVIDIA's libraries in the right version (the TensorRT one of 1.31 wants TensorRT 10), and where those are missing
a session quietly runs on the CPU. TensorRT for RTX comes as a plugin in a package of its own
(https://nvidia.github.io/TensorRT-RTX-EP-ABI). So each is tried, with a graph of one node.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xxdeploy.errors import EngineError

CPU = "CPUExecutionProvider"
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "tensorrt-rtx": ""}
"""Our names, and ONNX Runtime's; the plugin says its own."""
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_WARNING, _FATAL = 2, 4

DOUBLING = (
    b'\x08\x08:C\n\x12\n\x01x\n\x01x\x12\x01y\x1a\x00"\x03Add:\x00\x12\x01gZ\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t'
    b"\n\x03\x12\x01n\n\x02\x08\x01b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""ONNX of ``y = x + x`` for float32 (n, 1): the device has no library that could write it."""


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What was found of a provider: its ``name``, and ``problem``, None if it runs."""

    name: str
    problem: str | None


def listed(ort: Any, name: str) -> bool:
    """Tell whether a provider may work: the wheel was made with it, or its plugin is installed. Imports nothing."""
    if name == "tensorrt-rtx":
        return importlib.util.find_spec(_PLUGIN) is not None
    return PROVIDERS[name] in ort.get_available_providers()


def probe_providers(ort: Any) -> tuple[ProviderState, ...]:
    """Run a graph of one node in each provider of :data:`PROVIDERS`; ``ort`` is the imported onnxruntime. No errors."""
    return tuple(ProviderState(name, _problem(ort, name)) for name in PROVIDERS)


def session_in(ort: Any, model: bytes | str, options: Any, name: str) -> Any:
    """Return a session whose nodes run in provider ``name``, those that it does not know on the CPU.

    ``EngineError`` ``provider-unusable``: it does not work here, and nothing runs on the CPU in its place. Else
    whatever onnxruntime raises.
    """
    if name not in PROVIDERS:
        raise _unusable(ort, name, f"there is none of that name: {', '.join(PROVIDERS)}")
    if name == "tensorrt-rtx":
        options.add_provider_for_devices(_plugin_devices(ort), {})
        return ort.InferenceSession(model, options, enable_fallback=0)
    asked = PROVIDERS[name]
    if asked not in ort.get_available_providers():
        raise _unusable(ort, name, "this wheel of onnxruntime has no such provider")
    missing = "its libraries (CUDA, cuDNN, TensorRT) are missing or of another version"
    try:
        with _quiet(ort):
            session = ort.InferenceSession(model, options, providers=[asked, CPU], enable_fallback=0)
    except RuntimeError as error:  # not one of onnxruntime's own: the TensorRT provider could not be made
        raise _unusable(ort, name, missing) from error
    if session.get_providers()[0] != asked:
        raise _unusable(ort, name, missing)
    return session


def _plugin_devices(ort: Any) -> list[Any]:
    try:
        plugin = importlib.import_module(_PLUGIN)
    except (ImportError, OSError, RuntimeError) as error:
        raise _unusable(ort, "tensorrt-rtx", f"it needs {_PLUGIN.replace('_', '-')} ({error})") from error
    if not hasattr(ort, "register_execution_provider_library"):
        raise _unusable(ort, "tensorrt-rtx", "plugins need onnxruntime 1.24 or later")
    ours = plugin.get_ep_name()
    devices = [device for device in ort.get_ep_devices() if device.ep_name == ours]
    if not devices:
        try:
            ort.register_execution_provider_library(ours, plugin.get_library_path())
        except Exception as error:  # onnxruntime's own classes derive from Exception only
            raise _unusable(ort, "tensorrt-rtx", str(error).partition("\n")[0][:200]) from error
        devices = [device for device in ort.get_ep_devices() if device.ep_name == ours]
    if not devices:
        raise _unusable(ort, "tensorrt-rtx", "it finds no GPU")
    return devices


def _problem(ort: Any, name: str) -> str | None:
    try:
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL
        session = session_in(ort, DOUBLING, options, name)
        (answer,) = session.run(None, {"x": np.full((1, 1), 3, np.float32)})
    except EngineError as error:
        return error.message.partition(": ")[2]
    except Exception as error:  # noqa: BLE001 - as above; a provider may fail in any way
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return None if answer.item() == 6 else f"3 + 3 is {answer.item()} there"


@contextlib.contextmanager
def _quiet(ort: Any) -> Iterator[None]:
    """Find NVIDIA's libraries that pip installed, and silence onnxruntime's messages about missing ones.

    It logs that with the process' own logger, past the session's options; the level is put back to its default.
    """
    ort.set_default_logger_severity(_FATAL)
    try:
        if hasattr(ort, "preload_dlls"):
            with contextlib.redirect_stdout(io.StringIO()):
                ort.preload_dlls()
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)


def _unusable(ort: Any, name: str, why: str) -> EngineError:
    return EngineError(
        f"onnxruntime {ort.__version__} cannot use {name[:40]!r} here: {why}",
        hint="`xxdeploy doctor` lists the providers that work; leave the provider out to run on the processor",
        code="provider-unusable",
    )
