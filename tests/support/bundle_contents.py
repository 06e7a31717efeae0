"""The files of a bundle, to be compared with those of another."""

from __future__ import annotations

import json
from pathlib import Path


def contents(bundle: Path) -> dict[str, bytes]:
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def without_report(bundle: Path) -> dict[str, bytes]:
    """Return the files that two equal exports share: the report holds times, and the manifest the report's hash."""
    files = contents(bundle)
    assert len(files.pop("report.html")) > 10_000
    manifest = json.loads(files["manifest.json"])
    manifest["files"] = [entry for entry in manifest["files"] if entry["path"] != "report.html"]
    return {**files, "manifest.json": json.dumps(manifest).encode()}
