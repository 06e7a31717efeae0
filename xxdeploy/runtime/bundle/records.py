"""The records inside ``manifest.json``: files, variants, golden pairs, and further inputs and outputs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.signature import SIGNATURES
from xxdeploy.runtime.bundle.strict_json import wrong_value
from xxdeploy.runtime.bundle.tasks import check_task
from xxdeploy.runtime.bundle.tensors import InputTensor, OutputTensor
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput

MANIFEST = "manifest.json"
PRECISIONS = ("fp32", "fp16", "int8")
MAX_FILE_SIZE = 1 << 40

# An allow-list: no "..", drive letter, stream, backslash, device name with a colon, control character, leading dash, or
# two spellings of one letter (Unicode normalization) can be written in it.
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its path inside the bundle (``/`` between parts), SHA-256 in hexadecimal, bytes."""

    path: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        check_path(self.path)
        if not _SHA256.fullmatch(self.sha256):
            raise wrong_value(f"the sha256 of {self.path} must be 64 lower-case hexadecimal digits")
        if not 0 <= self.size <= MAX_FILE_SIZE:
            raise wrong_value(f"the size of {self.path} must be 0 to {MAX_FILE_SIZE}, not {self.size}")


@dataclass(frozen=True, slots=True)
class Variant:
    """One model file, for one kind of processor.

    ``model`` and ``golden`` (its expected outputs, float32 .npy) are paths in the bundle; ``precision`` is
    fp32, fp16 or int8; ``scheme`` names the numbers (``float32``, ``static-w8c-a8``); ``requires`` the
    processor features without which it must not be picked (``cpu.cpu_features``). ``inputs`` and ``outputs`` are those
    of the model file, in its order; below schema 5 they are not known, and empty.
    """

    name: str
    model: str
    precision: str
    scheme: str
    golden: str
    requires: tuple[str, ...] = ()
    inputs: tuple[InputTensor, ...] = ()
    outputs: tuple[OutputTensor, ...] = ()

    def __post_init__(self) -> None:
        words = (("name", self.name), ("scheme", self.scheme), *(("requires", word) for word in self.requires))
        for field_name, word in words:
            check_word(word, f"a variant's {field_name}")
        if self.precision not in PRECISIONS:
            raise wrong_value(f"the precision of variant {self.name} must be one of {', '.join(PRECISIONS)}")
        check_path(self.model)
        check_path(self.golden)


@dataclass(frozen=True, slots=True)
class GoldenSpec:
    """The self-test: ``inputs`` is the path of uint8 (n, h, w, c) .npy, ``tolerance`` the largest absolute error.

    For an input that is an array, the .npy is float32 (n, *shape).
    """

    inputs: str
    tolerance: float

    def __post_init__(self) -> None:
        check_path(self.inputs)
        if not (math.isfinite(self.tolerance) and self.tolerance > 0):
            raise wrong_value(f"the golden tolerance must be a positive number, not {self.tolerance}")


@dataclass(frozen=True, slots=True)
class MoreOutput:
    """An output after the first.

    ``name`` in the graph; ``task`` and ``classes`` as in :class:`Manifest`; ``golden`` has a path of expected outputs
    for each variant, in their order; ``tolerance`` is the largest absolute error of the self-test.
    """

    name: str
    task: str
    classes: int
    golden: tuple[str, ...]
    tolerance: float

    def __post_init__(self) -> None:
        check_word(self.name, "an output's name")
        check_task(self.task, self.classes)
        for path in self.golden:
            check_path(path)
        GoldenSpec("golden", self.tolerance)  # the same rule


@dataclass(frozen=True, slots=True)
class MoreInput:
    """An input after the first: ``name`` in the graph, ``preprocess`` and ``golden`` as those of the first."""

    name: str
    preprocess: Preprocess | ArrayInput
    golden: str

    def __post_init__(self) -> None:
        check_word(self.name, "an input's name")
        check_path(self.golden)


def check_path(path: str) -> None:
    """Raise ``BundleError`` ``manifest-path`` unless a bundle may contain ``path``."""
    parts = path.split("/")
    if len(path) > 200 or len(parts) > 8 or not all(_SEGMENT.fullmatch(part) for part in parts):
        raise BundleError(
            f"the manifest names the path {path[:200]!r}, which a bundle may not contain",
            hint="paths are relative, of letters, digits and . _ -, inside the bundle",
            code="manifest-path",
        )
    if path.casefold() in (MANIFEST, SIGNATURES[MANIFEST]):  # their hashes would depend on themselves
        raise BundleError(
            "the manifest lists itself or its signature", hint="list every other file", code="manifest-path"
        )


def check_word(word: str, where: str) -> None:
    """Raise ``BundleError`` ``manifest-value`` unless ``word`` may name something in a manifest."""
    if not _WORD.fullmatch(word):
        raise wrong_value(f"{where} must be of letters, digits and . _ + -, not {word[:80]!r}")
