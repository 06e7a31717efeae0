"""The golden pairs show whether this device computes what the exporter computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError, VerificationError
from xxdeploy.runtime.files import read_entry
from xxdeploy.runtime.manifest import Manifest, Variant
from xxdeploy.runtime.npy import array_from_npy
from xxdeploy.runtime.session import Session

MAX_BATCH = 8
"""Images in one run: the first layers of VGG16 take 26 MB an image, and more gains nothing on a processor."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the golden pairs gave.

    ``max_abs`` is the largest absolute error of any output, ``tolerance`` what was allowed;
    ``agreement`` the share (0..1) of images with the same top-1 class, None for features.
    """

    variant: str
    images: int
    max_abs: float
    tolerance: float
    agreement: float | None


def read_golden(root: Path, manifest: Manifest, variant: Variant) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read the pairs of one variant, hashes checked.

    Returns
    -------
    inputs (n, h, w, c) uint8, and expected outputs (n, classes) or (n, ...) float32.

    Raises
    ------
    BundleError
        ``golden-invalid``: the shapes do not fit the manifest; else as ``read_entry``, ``array_from_npy``.
    """
    entries = {entry.path: entry for entry in manifest.files}
    paths = manifest.golden.inputs, variant.golden
    inputs, expected = (array_from_npy(read_entry(root, entries[path]), path) for path in paths)
    preprocess = manifest.preprocess
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    inputs_fit = inputs.dtype == np.uint8 and inputs.ndim == 4 and len(inputs) > 0 and inputs.shape[1:] == shape
    outputs_fit = expected.dtype == np.float32 and expected.ndim >= 2 and len(expected) == len(inputs)
    if manifest.task == "classification":
        outputs_fit = outputs_fit and expected.shape[1:] == (manifest.classes,)
    if not (inputs_fit and outputs_fit and np.isfinite(expected).all()):
        raise BundleError(
            f"the golden pairs of variant {variant.name} do not fit the manifest: "
            f"inputs {inputs.shape} {inputs.dtype}, outputs {expected.shape} {expected.dtype}",
            hint="export the bundle again",
            code="golden-invalid",
        )
    return inputs, expected


def run_selftest(session: Session, root: Path, manifest: Manifest, variant: Variant) -> SelfTest:
    """Run the golden inputs through ``session`` and judge the largest error.

    Where the best class leads by more than twice the tolerance, errors within it cannot change the
    class, so the largest error is all there is to judge.

    Raises
    ------
    VerificationError
        ``golden-mismatch``: an error above the tolerance (or NaN), or outputs of another shape.
    """
    inputs, expected = read_golden(root, manifest, variant)
    outputs = np.concatenate(
        [
            session.run(manifest.preprocess.normalise(inputs[start : start + MAX_BATCH]))
            for start in range(0, len(inputs), MAX_BATCH)
        ]
    )
    if outputs.shape != expected.shape:
        raise _mismatch(variant, f"the outputs are {outputs.shape}, expected {expected.shape}")
    max_abs = float(np.abs(outputs.astype(np.float64) - expected).max())
    agreement = None
    if manifest.task == "classification":
        agreement = float(np.mean(outputs.argmax(-1) == expected.argmax(-1)))
    tolerance = manifest.golden.tolerance
    if not max_abs <= tolerance:  # NaN is not
        agrees = "" if agreement is None else f"; {agreement:.0%} of {len(inputs)} images keep their class"
        raise _mismatch(variant, f"the largest error is {max_abs:.3g}, allowed is {tolerance:.3g}{agrees}")
    return SelfTest(variant.name, len(inputs), max_abs, tolerance, agreement)


def _mismatch(variant: Variant, message: str) -> VerificationError:
    return VerificationError(
        f"this device does not compute what was exported (variant {variant.name}): {message}",
        hint="update onnxruntime, or export with a variant for this processor",
        code="golden-mismatch",
    )
