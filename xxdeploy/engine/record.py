"""An engine as files: the plan, the record that ``runtime.engine_file`` reads on the device, and timing caches.

A timing cache holds how long each kernel took on a card, so that TensorRT's next build need not measure again. TensorRT
for RTX has none: it compiles its kernels on the card that runs them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from xxdeploy.engine.options import Engine
from xxdeploy.errors import UsageError
from xxdeploy.files import read_bounded, write_atomic
from xxdeploy.runtime.bundle.signature import OMS_SIGNATURE, SIGNATURES
from xxdeploy.runtime.engines.engine_file import PLAN, RECORD, SCHEMA

_SIGNATURES = (SIGNATURES[RECORD], OMS_SIGNATURE)
LARGEST_TIMING = 256 << 20
log = logging.getLogger(__name__)


def engine_files(engine: Engine) -> Mapping[str, bytes]:
    """Return the files of ``engine``, by their name."""
    record = {
        "schema": SCHEMA,
        "plan": {"sha256": engine.digest, "size": engine.size},
        "model_sha256": engine.model_digest,
        "target": engine.options.target,
        "version": engine.version,
        "options": engine.options.to_json(),
        "proof": dict(engine.facts),
    }
    return {PLAN: engine.plan, RECORD: (json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()}


def write_engine(engine: Engine, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write ``engine`` to ``folder``, each file whole or not at all. ``UsageError`` as :func:`engine_writable`.

    The record comes last and holds the plan's hash, so a plan without its own record is never loaded.
    """
    root = engine_writable(folder, force=force)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for signature in _SIGNATURES:  # of the old engine
            (root / signature).unlink(missing_ok=True)
        for name, content in engine_files(engine).items():
            write_atomic(root / name, content)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return root


def engine_writable(folder: str | os.PathLike[str], *, force: bool) -> Path:
    """Fail before the build where :func:`write_engine` would after it.

    ``UsageError``: ``output-exists`` (an engine is there, and ``force`` is not given), ``output-not-an-engine`` (other
    files are), ``output-unwritable``.
    """
    root = Path(folder)
    try:
        names = {path.name for path in root.iterdir()} if root.exists() else set()
    except OSError as error:
        raise _unwritable(folder, error) from error
    if others := names - {PLAN, RECORD, *_SIGNATURES}:
        raise UsageError(
            f"{folder} holds other files than an engine: {sorted(others)[0]!r}",
            hint="choose another --out",
            code="output-not-an-engine",
        )
    if names and not force:
        raise UsageError(
            f"{folder} already exists", hint="choose another --out, or replace it with --force", code="output-exists"
        )
    return root


def _unwritable(folder: str | os.PathLike[str], error: OSError) -> UsageError:
    return UsageError(
        f"{folder} cannot be written: {error.strerror or error}",
        hint="choose another --out, or check the permissions of its folder",
        code="output-unwritable",
    )


def timing_path(folder: Path, *, version: str, gpu: str) -> Path:
    """Return where the timings of a version of TensorRT on a card are kept; another of either has another file."""
    key = hashlib.sha256(f"{version}\n{gpu}".encode()).hexdigest()[:32]
    return folder / f"timing-{key}.cache"


def load_timing(path: Path) -> bytes | None:
    """Return the cache; None where there is none, or one that is too large. TensorRT checks its content."""
    try:
        return read_bounded(path, LARGEST_TIMING) or None
    except OSError:
        return None


def save_timing(path: Path, cache: bytes) -> None:
    """Keep ``cache``. A cache that cannot be written costs minutes, no more: it is only said."""
    try:
        write_atomic(path, cache)
    except OSError as error:
        log.warning("the timing cache %s cannot be written: %s", path, error)
