"""The golden pairs show whether this device computes what the exporter computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import BundleError, EngineError, VerificationError
from xxdeploy.runtime.bundle.contents import array_from_npy
from xxdeploy.runtime.bundle.files import read_entry
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.bundle.tasks import TASKS
from xxdeploy.runtime.engines.metadata import same_but_unlisted
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import pack, shape_of

MAX_BATCH = 8
"""Images in one run: the first layers of VGG16 take 26 MB an image, and more gains nothing on a processor."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The result of the golden pairs.

    ``max_abs`` is the largest absolute error of any value of the first output, ``tolerance`` the largest allowed one;
    ``agreement`` the share (0..1) of images with the same top-1 class, None for other tasks. Further outputs were held
    to tolerances of their own.
    """

    variant: str
    images: int
    max_abs: float
    tolerance: float
    agreement: float | None


def read_golden(
    root: Path, manifest: Manifest, variant: Variant
) -> tuple[NDArray[Any], dict[str, NDArray[np.float32]]]:
    """Read the pairs of one variant, hashes checked.

    Returns the inputs, (n, h, w, c) uint8 or as ``manifest.form.pixels`` decodes them, and the expected values of each
    output by its name, (n, classes) or (n, ...)
    float32. ``BundleError`` as ``read_entry`` and ``array_from_npy``, and ``golden-invalid`` if the shapes do not fit
    the manifest.
    """
    entries = {entry.path: entry for entry in manifest.files}
    number = manifest.variants.index(variant)
    wanted = {manifest.output_name: (variant.golden, manifest.task, manifest.classes)}
    wanted |= {output.name: (output.golden[number], output.task, output.classes) for output in manifest.more_outputs}
    arrays = [array_from_npy(read_entry(root, entries[path]), path) for path in manifest.golden_inputs]
    inputs_fit = _fit(manifest, arrays)
    inputs = pack(arrays) if inputs_fit and len(arrays) > 1 else arrays[0]
    expected = {}
    for name, (path, task, classes) in wanted.items():
        array = expected[name] = array_from_npy(read_entry(root, entries[path]), path)
        outputs_fit = array.dtype == np.float32 and array.ndim >= 2 and len(array) == len(inputs)
        outputs_fit = outputs_fit and TASKS[task].fits(array.shape[1:], classes)
        if not (inputs_fit and outputs_fit and np.isfinite(array).all()):
            raise BundleError(
                f"the golden pairs of variant {variant.name} do not fit the manifest: "
                f"inputs {inputs.shape} {inputs.dtype}, outputs {array.shape} {array.dtype}",
                hint="export the bundle again",
                code="golden-invalid",
            )
    return inputs, expected


def _fit(manifest: Manifest, arrays: Sequence[NDArray[Any]]) -> bool:
    """Tell whether the golden values of each input have its shape and dtype, and all the same number of samples."""
    forms = (manifest.preprocess, *(more.preprocess for more in manifest.more_inputs))
    return len({len(array) for array in arrays if array.ndim}) == 1 and all(
        array.dtype == (np.uint8 if isinstance(form, Preprocess) else np.float32)
        and array.shape == (len(arrays[0]), *shape_of(form))
        and len(array) > 0
        and (array.dtype == np.uint8 or bool(np.isfinite(array).all()))
        for array, form in zip(arrays, forms, strict=True)
    )


def run_selftest(session: Session, root: Path, manifest: Manifest, variant: Variant) -> SelfTest:
    """Run the golden inputs through ``session`` and judge the largest error.

    Where the best class leads by more than twice the tolerance, errors within it cannot change the class.
    ``VerificationError`` ``golden-mismatch``: an error above the tolerance (or NaN), or outputs of another shape.
    """
    inputs, expected = read_golden(root, manifest, variant)
    batches = [
        run_all(session, manifest, manifest.form.normalize(inputs[start : start + MAX_BATCH]))
        for start in range(0, len(inputs), MAX_BATCH)
    ]
    outputs = {name: np.concatenate([batch[name] for batch in batches]) for name in expected}
    first = manifest.output_name
    if session.top_k is not None and outputs[first].shape == expected[first].shape:
        outputs[first] = same_but_unlisted(outputs[first], expected[first], session.top_k)
    limits = {output.name: (output.task, output.tolerance) for output in manifest.more_outputs}
    limits[first] = manifest.task, manifest.golden.tolerance
    judged = {name: _judge(variant, name, outputs[name], expected[name], *limits[name]) for name in expected}
    max_abs, agreement = judged[first]
    return SelfTest(variant.name, len(inputs), max_abs, manifest.golden.tolerance, agreement)


def run_all(session: Session, manifest: Manifest, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return every output of the bundle by its name; an engine with ``run`` alone serves a bundle with one output.

    ``EngineError`` ``engine-output``: the engine lacks an output that the manifest lists.
    """
    if not manifest.more_outputs:
        return {manifest.output_name: session.run(batch)}
    outputs = session.run_all(batch)
    if missing := [name for name in manifest.output_names if name not in outputs]:
        raise EngineError(
            f"{session.name} has no output {', '.join(missing)}",
            hint="a session for a bundle with several outputs needs run_all()",
            code="engine-output",
        )
    return outputs


def _judge(
    variant: Variant,
    name: str,
    outputs: NDArray[np.float32],
    expected: NDArray[np.float32],
    task: str,
    tolerance: float,
) -> tuple[float, float | None]:
    """Return the largest error of one output and the share of images that keep their class; raise if too large."""
    if outputs.shape != expected.shape:
        raise _mismatch(variant, f"{name} is {outputs.shape}, expected {expected.shape}")
    max_abs = float(np.abs(outputs.astype(np.float64) - expected).max())
    agreement = float(np.mean(outputs.argmax(-1) == expected.argmax(-1))) if task == "classification" else None
    if not max_abs <= tolerance:  # NaN is not
        agrees = "" if agreement is None else f"; {agreement:.0%} of {len(expected)} images keep their class"
        raise _mismatch(variant, f"the largest error of {name} is {max_abs:.3g}, allowed is {tolerance:.3g}{agrees}")
    return max_abs, agreement


def _mismatch(variant: Variant, message: str) -> VerificationError:
    return VerificationError(
        f"this device does not compute the exported model's outputs (variant {variant.name}): {message}",
        hint="update onnxruntime, or export with a variant for this processor",
        code="golden-mismatch",
    )
