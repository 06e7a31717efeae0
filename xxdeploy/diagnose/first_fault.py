"""Find the first wrong stage of a bundle and its first wrong layer: preprocess, labels, onnx-fp32, each model file.

The reference is the Keras model, built again or loaded from the user's file, and the float graph that this version of
xxdeploy converts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.datasets import Labels
from xxdeploy.diagnose.sensitivity import RECORD as SENSITIVITY
from xxdeploy.errors import UsageError, VerificationError
from xxdeploy.exporter.options import ExportOptions
from xxdeploy.exporter.source import Source, is_model_file, open_source
from xxdeploy.exporter.stages import Remembered, prove_stage, tolerance_for
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import Evidence, Parity, noise_from_json
from xxdeploy.runtime.bundle.contents import labels_from_text
from xxdeploy.runtime.bundle.files import read_entry
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.engines.select import LITERT
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import parts_of
from xxdeploy.verify import Tolerance, check, compare

if TYPE_CHECKING:
    from xxdeploy.diagnose.bisect import Piece, WeightFault

Batch = NDArray[np.float32]

EXACT_DB = 90.0
"""A correct float piece has 130 dB; a wrong epsilon of a batch normalization leads to about 60."""
WORSE_DB = 12.0
"""Margin of a piece of an integer graph below the record of its layer, which was measured on other images."""
PHOTO_DB, DRAWN_DB = 15.0, 6.0
"""Least for an 8-bit piece, which has 25 dB or more on images like the calibration set, and 14 dB on synthetic ones."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The model that a bundle was exported from; ``preprocess`` and ``labels`` are None if the catalog lacks them."""

    name: str
    keras: Any
    fp32: OnnxModel
    preprocess: Preprocess | None
    labels: Labels | None
    trained: bool
    runner: Remembered


def open_reference(manifest: Manifest, model: str | None = None, weights: str | None = None) -> Reference:
    """Build or load the Keras model of a bundle, and convert it to a float graph.

    ``model`` is a name of the catalog or a model file, ``weights`` as for ``xxdeploy export``; None: those in the
    manifest. ``UsageError``: ``another-model-file``: another file was exported; ``model-unknown``: the manifest names a
    file, and none is given; those of ``open_source``.
    """
    with extra("export"):
        from xxdeploy.convert.keras_to_onnx import onnx_from_keras
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.passes.optimize import optimize
    source = manifest.source
    named = str(source.get("model")) if model is None else model
    options, in_memory = source.get("options"), source.get("in_memory") is True
    is_file = in_memory or is_model_file(named) or (model is None and "sha256" in source)
    if model is None and is_file:
        whence = "a model in memory" if in_memory else f"the file {named}, whose path is unknown"
        save = f"save that model, with model.save('{named}.keras'), and " if in_memory else ""
        raise UsageError(
            f"{manifest.name} was exported from {whence}",
            hint=f"{save}add --xxdeploy-model FILE with its path",
            code="model-unknown",
        )
    asked = weights or str(source.get("weights", "imagenet"))
    picture = manifest.preprocess if isinstance(manifest.form, Preprocess) else None
    # A file may take any size.
    size = picture.height if isinstance(picture, Preprocess) and picture.height == picture.width else None
    if is_file:  # its preprocessing is in the manifest
        said: dict[str, Any] = {
            key: _text(source.get(key)) for key in ("output_layer", "task", "output_range", "signature")
        }
        asked_for = ExportOptions.of(
            **said, transpose=source.get("transpose") is True, preprocess=_asked(manifest), input_size=size
        )
    else:
        built = dict(options) if isinstance(options, dict) else {}
        asked_for = ExportOptions.of(
            weights=asked,
            no_top=not built.pop("include_top", True),
            **{key: value for key, value in built.items() if key in BuildOptions.__dataclass_fields__},
        )
    origin = open_source(Path(named) if is_file else find(named), asked_for, lambda _: nullcontext())
    if is_file:
        _check_same(manifest, named, origin, in_memory=in_memory)
    fp32 = optimize(onnx_from_keras(origin.model, inputs=origin.input_names, outputs=origin.output_names))[0]
    known = not is_file and asked in ("sample", "imagenet")
    runner = KerasRunner(origin.model, outputs=origin.output_names)
    return Reference(
        origin.name,
        origin.model,
        fp32,
        origin.inputs.picture if known else None,
        origin.inputs.labels if known else None,
        origin.trained,
        Remembered(runner, runner.exact),
    )


def _asked(manifest: Manifest) -> str:
    """Return a ``--preprocess`` that scales nothing, and says which inputs of the bundle are arrays."""
    kinds = ["none" if isinstance(part, Preprocess) else "array" for _, part in parts_of(manifest.form)]
    if len(kinds) == 1:
        return kinds[0]
    return ",".join(f"{name}={kind}" for name, kind in zip(manifest.input_names, kinds, strict=True))


def _check_same(manifest: Manifest, named: str, origin: Source, *, in_memory: bool) -> None:
    """Refuse another model than the one that was exported. ``UsageError`` ``another-model-file``."""
    if in_memory:
        from xxdeploy.convert.user_model.in_memory import weights_digest

        what, here, expected = "of the weights", weights_digest(origin.model), manifest.source.get("weights_sha256")
    else:
        what, here, expected = "of the file", origin.facts["sha256"], manifest.source.get("sha256")
    if here != (expected or here):
        raise UsageError(
            f"{named} is not the model that {manifest.name} was exported from (SHA-256 {what} {here[:12]}…, "
            f"expected {str(expected)[:12]}…)",
            hint="give the model file that was exported, or export this one",
            code="another-model-file",
        )


def check_stages(
    root: Path, manifest: Manifest, reference: Reference, batches: Sequence[Batch], *, drawn: bool
) -> tuple[Parity, ...]:
    """Compare each stage with Keras, in their order, and raise at the first fault with its stage and layer.

    ``batches`` are images (n, height, width, channels) float32, preprocessed by ``reference.preprocess``, else by the
    manifest's; ``drawn`` tells whether they are synthetic, so ranges may clip them. ``VerificationError``:
    ``wrong-preprocess``, ``wrong-labels``, ``wrong-weight``, ``wrong-layer``; ``parity``: an output is wrong, but no
    single layer is. ``BundleError``: as ``read_entry``.
    """
    with extra("export"):
        from xxdeploy.lowering.embed_topk import remove_topk
        from xxdeploy.lowering.x86_file import from_x86_file
    _check_preprocess(manifest, reference)
    _check_labels(root, manifest, reference)
    few = batches[:3]
    exact = _limits(manifest, "fp32", trained=reference.trained)
    parities = _prove(
        reference.runner, reference.fp32, "onnx-fp32", few, exact, partial(_check_float, reference, reference.fp32, few)
    )
    entries = {entry.path: entry for entry in manifest.files}
    for variant in manifest.variants:
        limits = _limits(manifest, variant.precision, trained=reference.trained and not drawn)
        if LITERT in variant.requires:
            from xxdeploy.runtime.engines.litert import LitertSession

            flat = LitertSession(read_entry(root, entries[variant.model]), name=f"litert-{variant.name}")
            parity = compare(reference.runner, flat, batches)
            check(parity, limits[manifest.output_name])
            parities += (parity,)
            continue
        model = remove_topk(OnnxModel(read_entry(root, entries[variant.model])))
        stage = f"onnx-{variant.name} ({variant.model})"
        if variant.precision == "fp32":
            if model.digest != reference.fp32.digest:
                explain = partial(_check_float, reference, model, few)
                parities += _prove(reference.runner, model, stage, few, exact, explain)
                _check_pieces(reference, model, stage, few, EXACT_DB)
            continue
        if variant.precision == "int8" and not Evidence.from_json(manifest.evidence).equalized:
            recorded = {} if drawn else _recorded(root, manifest)
            with _at(stage):
                plain = from_x86_file(model)
            _check_pieces(reference, plain, stage, batches, DRAWN_DB if drawn else PHOTO_DB, recorded)
        if not {"arm", "dotprod"} & set(variant.requires):  # the file for ARM is compared only piece by piece
            parities += prove_stage(reference.runner, model, stage, batches, limits)
    return parities


def _limits(manifest: Manifest, precision: str, *, trained: bool) -> dict[str, Tolerance]:
    """Return the tolerance of each output, that of the predictions first."""
    tasks = {manifest.output_name: manifest.task} | {output.name: output.task for output in manifest.more_outputs}
    return {name: tolerance_for(task, precision, trained=trained) for name, task in tasks.items()}


@contextmanager
def _at(stage: str) -> Iterator[None]:
    """Name the stage in errors."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{stage}: {error.message}", hint=error.hint, code=error.code) from error


def _prove(
    runner: Remembered,
    model: OnnxModel,
    name: str,
    batches: Sequence[Batch],
    limits: Mapping[str, Tolerance],
    explain: Callable[[], None],
) -> tuple[Parity, ...]:
    try:
        return prove_stage(runner, model, name, batches, limits)
    except VerificationError as error:
        try:
            explain()
        except VerificationError as cause:
            raise VerificationError(
                f"{name}: {cause.message}; {error.message}", hint=cause.hint, code=cause.code
            ) from error
        raise


def _check_preprocess(manifest: Manifest, reference: Reference) -> None:
    if reference.preprocess is None:
        return
    wanted, bundled = reference.preprocess.to_json(), manifest.preprocess.to_json()
    for key in ("height", "width", "channels", "mode"):
        if wanted[key] != bundled[key]:
            raise VerificationError(
                f"preprocess: {key} is {bundled[key]!r}, and {reference.name} was trained with {wanted[key]!r}",
                hint="export the bundle again",
                code="wrong-preprocess",
            )


def _check_labels(root: Path, manifest: Manifest, reference: Reference) -> None:
    if reference.labels is None or manifest.labels is None:
        return
    entry = next(entry for entry in manifest.files if entry.path == manifest.labels)
    names = labels_from_text(read_entry(root, entry), manifest.classes, characters=manifest.blank is not None)
    for number, (wanted, name) in enumerate(zip(reference.labels.names, names, strict=False)):
        if wanted != name and sorted(names) == sorted(reference.labels.names):
            raise VerificationError(
                f"labels: class {number} is {name!r} in {manifest.labels}, and {wanted!r} in {reference.name}",
                hint="export the bundle again: its names have another order than its outputs",
                code="wrong-labels",
            )


def _check_float(reference: Reference, model: OnnxModel, batches: Sequence[Batch]) -> None:
    """Compare a float graph with Keras, layer by layer, then weight by weight."""
    from xxdeploy.diagnose.bisect import Watch, measure_pieces, weight_faults
    from xxdeploy.diagnose.layer_values import LayerValues

    layers, watch = LayerValues(reference.keras, reference.fp32), Watch(reference.fp32)
    rights = [layers.run(batch, watch.run(batch)) for batch in batches]
    differing = weight_faults(reference.fp32, model) if model is not reference.fp32 else ()
    faults = {fault.tensor: fault for fault in differing}
    pieces = measure_pieces(model, rights, rights[0].keys() - set(watch.inputs))
    _judge(reference, model, pieces, EXACT_DB, faults, where=layers.tensors)


def _recorded(root: Path, manifest: Manifest) -> dict[str, float]:
    """Return the least signal-to-noise ratio of each layer in dB, from the record of the export."""
    entry = next((entry for entry in manifest.files if entry.path == SENSITIVITY), None)
    if entry is None:
        return {}
    layers = noise_from_json(read_entry(root, entry))
    return {layer.layer: layer.sqnr_db - WORSE_DB for layer in layers if layer.sqnr_db is not None}


def _check_pieces(
    reference: Reference,
    model: OnnxModel,
    stage: str,
    batches: Sequence[Batch],
    least: float,
    recorded: Mapping[str, float] | None = None,
) -> None:
    """Compare a file of the bundle with the float graph, tensor by tensor and weight by weight."""
    from xxdeploy.diagnose.bisect import Watch, measure_pieces, weight_faults

    watch = Watch(reference.fp32)
    rights: Iterator[Any] = (watch.run(batch) for batch in batches)
    faults = {fault.tensor: fault for fault in weight_faults(reference.fp32, model)}
    with _at(stage):
        _judge(reference, model, measure_pieces(model, rights, watch.tensors), least, faults, recorded=recorded)


def _judge(
    reference: Reference,
    model: OnnxModel,
    pieces: Sequence[Piece],
    least: float,
    faults: Mapping[str, WeightFault],
    where: Mapping[str, str] | None = None,
    recorded: Mapping[str, float] | None = None,
) -> None:
    from xxdeploy.diagnose.structure import constant_faults, structure_faults

    wrong = next((piece for piece in pieces if _is_wrong(piece, _least(piece, least, recorded))), None)
    constants = constant_faults(reference.fp32, model)
    if wrong is not None:
        layer = (where or {}).get(wrong.tensor) or wrong.layer.rpartition("/")[0] or wrong.layer
        asked = _least(wrong, least, recorded)
        shown = "another shape" if not wrong.right else f"{wrong.sqnr_db:.1f} dB signal to noise (at least {asked:.0f})"
        problem = (
            "the rounding error of its values is too large" if wrong.what == "rounding" else "its values are wrong"
        )
        structure = structure_faults(reference.fp32, model)
        reasons = [text for name, text in structure.items() if _near(name, wrong, reference.fp32)]
        reasons += [text for name, text in constants.items() if name == wrong.layer]
        reasons += [_weight_text(fault) for name, fault in faults.items() if name.startswith(wrong.layer)]
        raise VerificationError(
            f"the first layer that goes wrong is {layer} ({wrong.operator} {wrong.tensor}): {problem}, {shown}"
            + "".join(f"; {reason}" for reason in reasons[:2]),
            hint="all layers before it are correct: check how this layer was converted, folded or calibrated",
            code="wrong-layer",
        )
    if constants:
        name, told = next(iter(constants.items()))
        raise VerificationError(
            f"layer {name.rpartition('/')[0] or name}: {told}, which does not affect these images",
            hint="export the bundle again",
            code="wrong-layer",
        )
    if faults:
        name, fault = next(iter(faults.items()))
        raise VerificationError(
            f"layer {name.rpartition('/')[0].rpartition('/')[0] or name}: {_weight_text(fault)}",
            hint="export the bundle again: the file was changed, or exported from other weights",
            code="wrong-weight",
        )


def _least(piece: Piece, least: float, recorded: Mapping[str, float] | None) -> float:
    return EXACT_DB if piece.exact else max(least, (recorded or {}).get(piece.tensor, least))


def _is_wrong(piece: Piece, least: float) -> bool:
    return not piece.right or (piece.sqnr_db is not None and piece.sqnr_db < least)


def _near(name: str, wrong: Piece, fp32: OnnxModel) -> bool:
    """Return whether a node is the wrong one or its neighbor (a missing node shows at a neighbor)."""
    nodes = {output: node for node in fp32.split()[0].graph.node for output in node.output}
    near = [reader for reader in nodes.values() if wrong.tensor in reader.input]
    if (node := nodes.get(wrong.tensor)) is not None:
        near += [node, *(nodes[tensor] for tensor in node.input if tensor in nodes)]
    return name == wrong.layer or name in {neighbor.name for neighbor in near}


def _weight_text(fault: WeightFault) -> str:
    by = "" if fault.steps == float("inf") else f", {fault.steps:.0f} steps away"
    more = f" and {fault.count - 1} more" if fault.count > 1 else ""
    return f"weight {fault.tensor}{list(fault.index)} is {fault.actual:.4g} instead of {fault.expected:.4g}{by}{more}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
