"""Check a bundle's records: calibration and variants against the manifest, its card against an earlier one."""

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
    """Compare ``calibration.json`` with the manifest, and each model file with its variant.

    ``VerificationError``: ``stale-calibration``: the ranges are of another model, or of other images;
    ``swapped-variants``: a file is for another kind of processor than its variant.
    """
    _check_variants(root, manifest)
    entry = next((entry for entry in manifest.files if entry.path == _RECORD), None)
    if entry is None:
        return {"calibration": "none"}
    ranges = Ranges.from_json(read_entry(root, entry).decode("utf-8", "replace"))
    source, evidence = manifest.source, Evidence.from_json(manifest.evidence)
    images = None if evidence.calibration is None else evidence.calibration.data_sha256
    for subject, actual, expected in (
        # An equalized network has other weights than the float graph, and so another digest.
        ("model", ranges.model_digest, None if evidence.equalized else source.get("fp32_sha256")),
        ("images", ranges.data_digest, images),
    ):
        if isinstance(expected, str) and actual != expected:
            raise VerificationError(
                f"calibration: the {subject} of {_RECORD} is {actual[:12]}…, and {expected[:12]}… in the manifest",
                hint="export the bundle again: its ranges were measured on another model or other images",
                code="stale-calibration",
            )
    return {"calibration": f"{ranges.method}, {ranges.images} images, {len(ranges.ranges)} tensors"}


def _check_variants(root: Path, manifest: Manifest) -> None:
    """Check that layers that overflow 16-bit sums are narrowed in the file for processors without VNNI."""
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
        risky = risky_layers(from_x86_file(OnnxModel(read_entry(root, entries[variant.model]))))
        if layers := [layer for layer, count in risky.items() if count and layer in narrowed]:
            raise VerificationError(
                f"variant {variant.name}: {variant.model} is the file of another variant: without VNNI the 16-bit "
                f"sums of {len(layers)} layers overflow, first {layers[0]}",
                hint="export the bundle again",
                code="swapped-variants",
            )


def check_drift(root: Path, manifest: Manifest, earlier: Path) -> dict[str, str]:
    """Compare the bundle's card with an earlier card (a file) or bundle (a folder).

    ``VerificationError`` ``drift``, with the differences beyond the tolerances of ``batch.cards``.
    """
    from xxdeploy.batch.cards import card_differences, read_card

    before = _card(*open_bundle(earlier)) if earlier.is_dir() else read_card(earlier)
    differences = card_differences(before, _card(root, manifest))
    if differences:
        raise VerificationError(
            f"drift from {earlier.name}: " + "; ".join(differences[:6]),
            hint="if the change is intended, use the new bundle or its card as the reference from now on",
            code="drift",
        )
    return {"card": f"as {earlier.name}"}


def _card(root: Path, manifest: Manifest) -> dict[str, Any]:
    from xxdeploy.batch.cards import card_from_bundle
    from xxdeploy.batch.jobs import Job

    job = Job(manifest.name, str(manifest.source.get("model")), manifest.variants[0].precision, {})
    return card_from_bundle(job, root)
