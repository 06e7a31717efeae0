"""Which stage of a bundle goes wrong first, and in which layer: preprocess, labels, onnx-fp32, each model file.

The truth is the Keras model, built again or loaded from the user's file. The float graph is converted from it afresh:
what is compared is what this xxdeploy would make today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from xxdeploy.exporter.source import SUFFIXES, open_source
from xxdeploy.exporter.stages import Remembered, prove_stage, tolerance_for
from xxdeploy.models.catalog import BuildOptions, find
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.optional import extra
from xxdeploy.results import Evidence, Parity, noise_from_json
from xxdeploy.runtime.bundle.contents import labels_from_text
from xxdeploy.runtime.bundle.files import read_entry
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.verify import Tolerance

if TYPE_CHECKING:
    from xxdeploy.diagnose.bisect import Piece, WeightFault

Batch = NDArray[np.float32]

EXACT_DB = 90.0
"""A float piece fed with the right values has 130 dB; where the epsilon of a batch normalization is wrong, some 60."""
WORSE_DB = 12.0
"""A piece of an integer graph may be so much worse than its layer was when it was exported: on other images."""
PHOTO_DB, DRAWN_DB = 15.0, 6.0
"""An 8-bit piece has 25 dB and more on images like those of calibration; golden pairs are drawn, and clip (14 dB)."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a bundle was made from. ``preprocess`` and ``labels`` are None where only the exporter's user knew them."""

    name: str
    keras: Any
    fp32: OnnxModel
    preprocess: Preprocess | None
    labels: Labels | None
    trained: bool
    reference: Remembered


def open_truth(manifest: Manifest, model: str | None = None, weights: str | None = None) -> Truth:
    """Build or load the Keras model of a bundle, and convert it.

    Parameters
    ----------
    model
        A name of the catalog or a model file; None: what the manifest says.
    weights
        As for ``xxdeploy export``; None: what the manifest says.

    Raises
    ------
    UsageError
        ``another-model-file``: the file is not the one that was exported; ``model-unknown``: the manifest names a file,
        and none is given; those of ``open_source``.
    """
    source = manifest.source
    named = str(source.get("model")) if model is None else model
    options = source.get("options")
    is_file = named.lower().endswith(SUFFIXES)
    if model is None and is_file:
        raise UsageError(
            f"{manifest.name} was made from the file {named}",
            hint="say where it is: --xxdeploy-model FILE",
            code="model-unknown",
        )
    asked = weights or str(source.get("weights", "imagenet"))
    picture = manifest.preprocess
    size = picture.height if picture.height == picture.width else None  # some files leave it open
    if is_file:  # how its pixels are scaled is in the manifest, and nothing else is known of it
        layer, task = _text(source.get("output_layer")), _text(source.get("task"))
        asked_for = ExportOptions.of(output_layer=layer, task=task, preprocess="none", input_size=size)
    else:
        built = dict(options) if isinstance(options, dict) else {}
        asked_for = ExportOptions.of(
            weights=asked,
            no_top=not built.pop("include_top", True),
            **{key: value for key, value in built.items() if key in BuildOptions.__dataclass_fields__},
        )
    origin = open_source(Path(named) if is_file else find(named), asked_for, lambda _: nullcontext())
    if is_file and origin.facts["sha256"] != source.get("sha256", origin.facts["sha256"]):
        raise UsageError(
            f"{named} is not the file that {manifest.name} was made from (SHA-256 {origin.facts['sha256'][:12]}…, "
            f"expected {str(source.get('sha256'))[:12]}…)",
            hint="give the model file that was exported, or export this one",
            code="another-model-file",
        )
    with extra("export"):
        from xxdeploy.convert.keras_to_onnx import onnx_from_keras
        from xxdeploy.convert.runner import KerasRunner
        from xxdeploy.passes.optimize import optimize
    fp32 = optimize(onnx_from_keras(origin.model, outputs=origin.output_names))[0]
    known = not is_file and asked in ("sample", "imagenet")
    return Truth(
        origin.name,
        origin.model,
        fp32,
        origin.inputs.preprocess if known else None,
        origin.inputs.labels if known else None,
        origin.trained,
        Remembered(KerasRunner(origin.model, outputs=origin.output_names)),
    )


def check_places(
    root: Path, manifest: Manifest, truth: Truth, batches: Sequence[Batch], *, drawn: bool
) -> tuple[Parity, ...]:
    """Compare every stage with Keras in turn, and name the first that is wrong with its layer.

    Parameters
    ----------
    batches
        Preprocessed as the truth asks (``truth.preprocess``, else the manifest's).
    drawn
        The images are not of the kind that was calibrated on, so ranges may clip them.

    Raises
    ------
    VerificationError
        ``wrong-preprocess``, ``wrong-labels``, ``wrong-weight``, ``wrong-layer``; ``parity`` where an output is wrong
        and every layer is right in itself.
    BundleError
        As ``read_entry``.
    """
    with extra("export"):
        from xxdeploy.lowering.embed_topk import remove_topk
    _check_preprocess(manifest, truth)
    _check_labels(root, manifest, truth)
    reference = truth.reference
    few = batches[:2]
    exact = _limits(manifest, "fp32", trained=truth.trained)
    parities = _prove(reference, truth.fp32, "onnx-fp32", few, exact, partial(_check_float, truth, truth.fp32, few))
    entries = {entry.path: entry for entry in manifest.files}
    for variant in manifest.variants:
        model = remove_topk(OnnxModel(read_entry(root, entries[variant.model])))
        stage = f"onnx-{variant.name} ({variant.model})"
        if variant.precision == "fp32":
            if model.digest != truth.fp32.digest:
                explain = partial(_check_float, truth, model, few)
                parities += _prove(reference, model, stage, few, exact, explain)
                _check_pieces(truth, model, stage, few, EXACT_DB)
            continue
        if variant.precision == "int8" and not _equalized(manifest):
            recorded = {} if drawn else _recorded(root, manifest)
            plain = _plain(model, stage)
            _check_pieces(truth, plain, stage, batches, DRAWN_DB if drawn else PHOTO_DB, recorded)
        if _runs_here(variant):
            limits = _limits(manifest, variant.precision, trained=truth.trained and not drawn)
            parities += prove_stage(reference, model, stage, batches, limits)
    return parities


def _limits(manifest: Manifest, precision: str, *, trained: bool) -> dict[str, Tolerance]:
    """Return what each output is held to, the one that the bundle predicts with first."""
    tasks = {manifest.output_name: manifest.task} | {each.name: each.task for each in manifest.more_outputs}
    return {name: tolerance_for(task, precision, trained=trained) for name, task in tasks.items()}


def _plain(model: OnnxModel, stage: str) -> OnnxModel:
    """Return ``model`` with its layers as ``quantize`` writes them."""
    from xxdeploy.lowering.x86_file import from_x86_file

    try:
        return from_x86_file(model)
    except VerificationError as error:
        raise VerificationError(f"{stage}: {error.message}", hint=error.hint, code=error.code) from error


def _prove(
    reference: Remembered,
    model: OnnxModel,
    name: str,
    batches: Sequence[Batch],
    limits: Mapping[str, Tolerance],
    explain: Callable[[], None],
) -> tuple[Parity, ...]:
    try:
        return prove_stage(reference, model, name, batches, limits)
    except VerificationError as error:
        try:
            explain()
        except VerificationError as found:
            raise VerificationError(
                f"{name}: {found.message}; {error.message}", hint=found.hint, code=found.code
            ) from error
        raise


def _check_preprocess(manifest: Manifest, truth: Truth) -> None:
    if truth.preprocess is None:
        return
    wanted, found = truth.preprocess.to_json(), manifest.preprocess.to_json()
    for key in ("height", "width", "channels", "mode"):
        if wanted[key] != found[key]:
            raise VerificationError(
                f"preprocess: {key} is {found[key]!r}, and {truth.name} was trained with {wanted[key]!r}",
                hint="export the bundle again",
                code="wrong-preprocess",
            )


def _check_labels(root: Path, manifest: Manifest, truth: Truth) -> None:
    if truth.labels is None or manifest.labels is None:
        return
    entry = next(entry for entry in manifest.files if entry.path == manifest.labels)
    found = labels_from_text(read_entry(root, entry), manifest.classes)
    for number, (wanted, name) in enumerate(zip(truth.labels.names, found, strict=False)):
        if wanted != name and sorted(found) == sorted(truth.labels.names):
            raise VerificationError(
                f"labels: {manifest.labels} calls class {number} {name!r}, and the weights' class {number} is "
                f"{wanted!r}",
                hint="the names are in another order than the outputs: export the bundle again",
                code="wrong-labels",
            )


def _check_float(truth: Truth, model: OnnxModel, batches: Sequence[Batch]) -> None:
    """Keras against a float graph, layer by layer, then weight by weight."""
    from xxdeploy.diagnose.bisect import Watch, measure_pieces, weight_faults
    from xxdeploy.diagnose.layer_values import LayerValues

    layers, watch = LayerValues(truth.keras, truth.fp32), Watch(truth.fp32)
    rights = [layers.run(batch, watch.run(batch)) for batch in batches]
    faults = {each.tensor: each for each in weight_faults(truth.fp32, model)} if model is not truth.fp32 else {}
    pieces = measure_pieces(model, rights, rights[0].keys() - {watch.input})
    _judge(truth, model, pieces, EXACT_DB, faults, where=layers.tensors)


def _recorded(root: Path, manifest: Manifest) -> dict[str, float]:
    """Return the least signal to noise of each layer, in dB, by what the export measured of it."""
    entry = next((entry for entry in manifest.files if entry.path == SENSITIVITY), None)
    if entry is None:
        return {}
    layers = noise_from_json(read_entry(root, entry))
    return {each.layer: each.sqnr_db - WORSE_DB for each in layers if each.sqnr_db is not None}


def _check_pieces(
    truth: Truth,
    model: OnnxModel,
    stage: str,
    batches: Sequence[Batch],
    least: float,
    recorded: Mapping[str, float] | None = None,
) -> None:
    """The float graph against a file of the bundle, tensor by tensor and weight by weight."""
    from xxdeploy.diagnose.bisect import Watch, measure_pieces, weight_faults

    watch = Watch(truth.fp32)
    rights: Iterator[Any] = (watch.run(batch) for batch in batches)
    faults = {each.tensor: each for each in weight_faults(truth.fp32, model)}
    try:
        _judge(truth, model, measure_pieces(model, rights, watch.tensors), least, faults, recorded=recorded)
    except VerificationError as error:
        raise VerificationError(f"{stage}: {error.message}", hint=error.hint, code=error.code) from error


def _judge(
    truth: Truth,
    model: OnnxModel,
    pieces: Sequence[Piece],
    least: float,
    faults: Mapping[str, WeightFault],
    where: Mapping[str, str] | None = None,
    recorded: Mapping[str, float] | None = None,
) -> None:
    from xxdeploy.diagnose.structure import constant_faults, structure_faults

    wrong = next((each for each in pieces if _is_wrong(each, _least(each, least, recorded))), None)
    constants = constant_faults(truth.fp32, model)
    if wrong is not None:
        layer = (where or {}).get(wrong.tensor) or wrong.layer.rpartition("/")[0] or wrong.layer
        asked = _least(wrong, least, recorded)
        shown = "another shape" if not wrong.right else f"{wrong.sqnr_db:.1f} dB signal to noise (at least {asked:.0f})"
        what = "rounding its values costs too much" if wrong.what == "rounding" else "it is computed wrongly"
        why = [each for name, each in structure_faults(truth.fp32, model).items() if _near(name, wrong, truth.fp32)]
        why += [each for name, each in constants.items() if name == wrong.layer]
        why += [_weight_text(each) for name, each in faults.items() if name.startswith(wrong.layer)]
        raise VerificationError(
            f"the first layer that goes wrong is {layer} ({wrong.operator} {wrong.tensor}): {what}, {shown}"
            + "".join(f"; {each}" for each in why[:2]),
            hint="everything before it is right: look at how this layer was converted, folded or calibrated",
            code="wrong-layer",
        )
    if constants:
        name, told = next(iter(constants.items()))
        raise VerificationError(
            f"layer {name.rpartition('/')[0] or name}: {told}, though these images do not show it",
            hint="export the bundle again",
            code="wrong-layer",
        )
    if faults:
        name, fault = next(iter(faults.items()))
        raise VerificationError(
            f"layer {name.rpartition('/')[0].rpartition('/')[0] or name}: {_weight_text(fault)}",
            hint="the file was changed after it was made, or made from other weights: export it again",
            code="wrong-weight",
        )


def _least(piece: Piece, least: float, recorded: Mapping[str, float] | None) -> float:
    return EXACT_DB if piece.exact else max(least, (recorded or {}).get(piece.tensor, least))


def _is_wrong(piece: Piece, least: float) -> bool:
    return not piece.right or (piece.sqnr_db is not None and piece.sqnr_db < least)


def _near(name: str, wrong: Piece, fp32: OnnxModel) -> bool:
    """Whether a node is the wrong one, or beside it (a missing node shows before or behind its place)."""
    nodes = {output: node for node in fp32.split()[0].graph.node for output in node.output}
    node = nodes.get(wrong.tensor)
    reads = [nodes[tensor].name for tensor in node.input if tensor in nodes] if node is not None else []
    readers = [each.name for each in nodes.values() if wrong.tensor in each.input]
    return name in (wrong.layer, *reads, *([node.name] if node is not None else []), *readers)


def _weight_text(fault: WeightFault) -> str:
    by = "" if fault.steps == float("inf") else f", {fault.steps:.0f} steps away"
    more = f" and {fault.count - 1} more" if fault.count > 1 else ""
    return f"weight {fault.tensor}{list(fault.index)} is {fault.found:.4g} instead of {fault.expected:.4g}{by}{more}"


def _equalized(manifest: Manifest) -> bool:
    return Evidence.from_json(manifest.evidence).equalized


def _runs_here(variant: Variant) -> bool:
    """The ARM file's integers are another's: what it computes is seen piece by piece, in float, on any processor."""
    return not {"arm", "dotprod"} & set(variant.requires)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
