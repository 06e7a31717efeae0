"""What a bundle says of itself: its calibration record, and its card beside an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xxdeploy.errors import VerificationError
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.results import Evidence, Ranges
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.bundle.manifest import Manifest

_RECORD = "calibration.json"


def check_records(root: Path, manifest: Manifest) -> dict[str, str]:
    """Compare ``calibration.json`` with what the manifest names, and each model file with its variant.

    Raises
    ------
    VerificationError
        ``stale-calibration``; ``swapped-variants``: a file is for another kind of processor than its variant.
    """
    _check_variants(root, manifest)
    entry = next((entry for entry in manifest.files if entry.path == _RECORD), None)
    if entry is None:
        return {"calibration": "none"}
    ranges = Ranges.from_json(read_entry(root, entry).decode("utf-8", "replace"))
    source, evidence = manifest.source, Evidence.from_json(manifest.evidence)
    images = None if evidence.calibration is None else evidence.calibration.data_sha256
    for what, found, expected in (
        # An equalized network has other weights, and so another digest, than the float graph.
        ("model", ranges.model_digest, None if evidence.equalized else source.get("fp32_sha256")),
        ("images", ranges.data_digest, images),
    ):
        if isinstance(expected, str) and found != expected:
            raise VerificationError(
                f"calibration: {_RECORD} is of other {what} ({found[:12]}…) than the manifest says ({expected[:12]}…)",
                hint="the ranges were measured for something else: export the bundle again",
                code="stale-calibration",
            )
    return {"calibration": f"{ranges.method}, {ranges.images} images, {len(ranges.ranges)} tensors"}


def _check_variants(root: Path, manifest: Manifest) -> None:
    """Layers that were found to overflow 16-bit sums may not be able to in the file for processors without VNNI."""
    verdicts = Evidence.from_json(manifest.evidence).processors
    narrowed = {layer for verdict in verdicts if verdict.cpu == "avx2" for layer in verdict.saturating_layers}
    if not narrowed or not any("vnni" in variant.requires for variant in manifest.variants):
        return
    from xxdeploy.lowering.x86_file import from_x86_file
    from xxdeploy.quantize.x86.processors import risky_layers

    entries = {entry.path: entry for entry in manifest.files}
    for variant in manifest.variants:
        if variant.precision != "int8" or variant.requires:
            continue
        found = risky_layers(from_x86_file(OnnxModel(read_entry(root, entries[variant.model]))))
        if layers := [layer for layer, count in found.items() if count and layer in narrowed]:
            raise VerificationError(
                f"variant {variant.name}: the 16-bit sums of {variant.model} overflow without VNNI in {len(layers)} "
                f"layers that were made to fit, first {layers[0]}: it is the file of another variant",
                hint="export the bundle again",
                code="swapped-variants",
            )


def check_drift(root: Path, manifest: Manifest, earlier: Path) -> dict[str, str]:
    """Compare the bundle's card with an earlier card (a file) or bundle (a folder).

    Raises
    ------
    VerificationError
        ``drift``, naming each difference beyond the tolerances of ``pipeline.matrix_card``.
    """
    from xxdeploy.batch.cards import card_differences, read_card

    before = _card(*open_bundle(earlier)) if earlier.is_dir() else read_card(earlier)
    differences = card_differences(before, _card(root, manifest))
    if differences:
        raise VerificationError(
            f"drift from {earlier.name}: " + "; ".join(differences[:6]),
            hint="if the change is meant, keep the new card: `xxdeploy export` writes what it measured into the bundle",
            code="drift",
        )
    return {"card": f"as {earlier.name}"}


def _card(root: Path, manifest: Manifest) -> dict[str, Any]:
    from xxdeploy.batch.cards import card_from_bundle
    from xxdeploy.batch.jobs import Job

    job = Job(manifest.name, str(manifest.source.get("model")), manifest.variants[0].precision, {})
    return card_from_bundle(job, root)
