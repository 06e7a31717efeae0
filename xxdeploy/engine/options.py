"""Options of an engine, and the built engine."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, field

from xxdeploy.errors import EngineError, UsageError
from xxdeploy.runtime.engines.select import PLANS

PRECISIONS = ("fp32", "fp16", "int8")
GPUS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
"""Compute capabilities that TensorRT for RTX 1.7 builds for: Turing, Ampere (twice), Ada, Blackwell (twice)."""
MAX_BATCH = 1024

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch sizes of the optimization profile: ``min`` to ``max`` run, and the engine is tuned for ``opt``."""

    min: int = 1
    opt: int = 1
    max: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max <= MAX_BATCH:
            raise _bad_batch(f"{self.min},{self.opt},{self.max}")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is built.

    ``precision`` is the precision that the graph must have. ``gpus`` names compute capabilities (``sm86``), for
    RTX only; empty: the local card. ``workspace`` is the builder's scratch memory in bytes, None for no limit.
    ``any_version`` makes a plan that later versions of the library load; ``any_gpu`` (TensorRT only) one that runs on
    every card since Ampere, somewhat slower. ``strip`` leaves the weights out, to be filled in on the device; ``refit``
    lets weights be exchanged.
    """

    target: str = "tensorrt-rtx"
    precision: str = "fp32"
    gpus: tuple[str, ...] = ()
    batch: Batch = Batch()
    workspace: int | None = None
    any_version: bool = False
    any_gpu: bool = False
    strip: bool = False
    refit: bool = False

    def __post_init__(self) -> None:
        if self.target not in PLANS:
            raise UsageError(
                f"unknown target {self.target!r}", hint=f"one of {', '.join(PLANS)}", code="unknown-target"
            )
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        unknown = [gpu for gpu in self.gpus if gpu not in GPUS]
        if unknown or len(set(self.gpus)) != len(self.gpus):
            raise UsageError(
                f"unknown or repeated GPU {(unknown or self.gpus)[0][:40]!r}",
                hint=f"compute capabilities, with commas between them: {', '.join(GPUS)}",
                code="unknown-gpu",
            )
        if self.gpus and self.target != "tensorrt-rtx":
            raise _gpu_without_rtx(
                "TensorRT builds for the GPU of this machine only", "leave --gpu out, or take --target tensorrt-rtx"
            )
        if self.any_gpu and self.target == "tensorrt-rtx":
            raise _gpu_without_rtx("TensorRT for RTX takes a list of cards instead", f"--gpu {','.join(GPUS)}")
        if self.workspace is not None and self.workspace < _MIB:
            raise UsageError(
                f"{self.workspace} bytes are too little for the builder",
                hint="1 MiB or more; a few hundred are usual",
                code="bad-workspace",
            )

    def to_json(self) -> dict[str, object]:
        """Return the options as they go into the engine's record."""
        return {**asdict(self), "gpus": list(self.gpus), "batch": list(astuple(self.batch))}


@dataclass(frozen=True, slots=True)
class Engine:
    """A serialized plan. ``facts`` says how it was built and proved; reproducible but for the plan."""

    plan: bytes = field(repr=False)
    options: EngineOptions
    version: str
    model_digest: str
    facts: Mapping[str, object] = field(repr=False)
    timing_cache: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.plan:
            raise EngineError("the engine is empty", hint="build it again", code="engine-build")

    @property
    def digest(self) -> str:
        """SHA-256 of the plan, in hexadecimal."""
        return hashlib.sha256(self.plan).hexdigest()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.plan)


def parse_gpus(text: str) -> tuple[str, ...]:
    """Read ``sm86,sm89`` (also ``86``, ``8.6``, capitals); ``UsageError`` ``unknown-gpu`` is up to `EngineOptions`."""
    words = [word.strip().lower().replace(".", "") for word in text.split(",")]
    return tuple(word if word.startswith("sm") else f"sm{word}" for word in words if word)


def parse_batch(text: str) -> Batch:
    """Read ``--batch``: ``8`` (1 to 8, tuned for 8), ``4,8`` (4 to 8, tuned for 8) or ``1,4,8`` (min, opt, max)."""
    if not re.fullmatch(r"\d{1,4}(,\d{1,4}){0,2}", text, re.ASCII):
        raise _bad_batch(text)
    sizes = [int(word) for word in text.split(",")]
    if len(sizes) == 1:
        sizes = [1, *sizes]
    return Batch(sizes[0], sizes[1] if len(sizes) == 3 else sizes[-1], sizes[-1])


def _gpu_without_rtx(message: str, hint: str) -> UsageError:
    return UsageError(message, hint=hint, code="gpu-without-rtx")


def _bad_batch(text: str) -> UsageError:
    return UsageError(
        f"batch sizes {text[:40]!r} make no profile",
        hint=f"min,opt,max in rising order, from 1 to {MAX_BATCH}: --batch 1,4,8",
        code="bad-batch",
    )
