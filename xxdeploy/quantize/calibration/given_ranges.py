"""Ranges that are already measured: a calibration cache of TensorRT, or ``calibration.json`` of a bundle."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.onnxmodel.graph import Graph
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.placement import plan_layout
from xxdeploy.quantize.scheme import Scheme
from xxdeploy.quantize.tensorrt.cache_file import ranges_from_tensorrt_cache
from xxdeploy.results import Ranges

LARGEST_FILE = 64 << 20
_NAMED = 3


def given_ranges(path: Path, model: OnnxModel) -> Ranges:
    """Read the ranges of ``model`` from a ``.json`` that a bundle holds, or from a calibration cache (any other file).

    Raises ``UsageError`` (``no-tensorrt-cache``, ``bad-tensorrt-cache``; ``bad-ranges``: the record is damaged or of
    another model; ``ranges-incomplete``: it lacks tensors that the layout needs).
    """
    ranges = _record(path, model) if path.suffix.lower() == ".json" else ranges_from_tensorrt_cache(path)
    needed = plan_layout(Graph(model), Scheme()).measured
    if missing := [name for name in needed if name not in ranges.ranges]:
        some = ", ".join(missing[:_NAMED])
        raise UsageError(
            f"{path.name} has no range for {len(missing)} of {len(needed)} tensors, such as {some}",
            hint="it must be made from the ONNX file that xxdeploy exports of this network: ranges go by tensor name",
            code="ranges-incomplete",
        )
    return Ranges(ranges.method, model.digest, ranges.data_digest, ranges.images, ranges.ranges)


def _record(path: Path, model: OnnxModel) -> Ranges:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise _bad(path, "is larger than 64 MiB")
        ranges = Ranges.from_json(data.decode())
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _bad(path, "is not text") from error
    except XXDeployError as error:
        raise _bad(path, error.message) from error
    if ranges.model_digest != model.digest:
        raise _bad(path, f"is of another graph ({ranges.model_digest[:12]}, not {model.digest[:12]})")
    return ranges


def _bad(path: Path, problem: str) -> UsageError:
    return UsageError(
        f"the ranges in {path} cannot be used: {problem}",
        hint="--ranges takes a TensorRT calibration cache, or calibration.json of a bundle of the same network",
        code="bad-ranges",
    )
