"""A TensorRT engine on disk: the plan, and ``engine.json`` that describes it. Read strictly, for a plan can hold code.

Experimental: no engine has ever been run on a card.

::

    ENGINE/engine.json   schema, the plan's SHA-256 and size, the SHA-256 of the ONNX that it was built from, target,
                         version of the library, options, and the proof of its precision
    ENGINE/engine.plan
    ENGINE/engine.sig    if it is signed: the signature of engine.json (``runtime.signature``)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.files import read_entry, read_signed
from xxdeploy.runtime.bundle.manifest import FileEntry, Manifest
from xxdeploy.runtime.bundle.signature import Trust
from xxdeploy.runtime.bundle.strict_json import JsonValue, as_object, as_record, parse, typed, wrong_value
from xxdeploy.runtime.engines.select import PLANS

RECORD, PLAN = "engine.json", "engine.plan"
FOLDER, BUILT = "engine", "-engine"
"""The engine's folder inside a bundle, and the suffix that ``xxdeploy build`` adds to the bundle's name."""
SCHEMA = 1
_KEYS = ("schema", "plan", "model_sha256", "target", "version", "options", "proof")


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """The content of ``engine.json``. ``model_sha256`` is the ONNX's; ``options`` and ``proof`` are for people."""

    plan: FileEntry
    model_sha256: str
    target: str
    version: str
    options: Mapping[str, JsonValue] = field(repr=False)
    proof: Mapping[str, JsonValue] = field(repr=False)


def read_engine(folder: str | os.PathLike[str], *, trust: Trust | None = None) -> tuple[EngineRecord, bytes]:
    """Return the record and the plan, once the signature that ``trust`` asks for and the plan's hash are right.

    ``BundleError``: ``no-engine`` (none in ``folder``), ``signature-*``, ``file-*`` and ``manifest-*`` (damaged).
    """
    root = Path(folder).resolve()
    if not (root / RECORD).is_file():
        raise BundleError(f"{folder} holds no engine", hint="build one: xxdeploy build BUNDLE", code="no-engine")
    record = record_from_json(read_signed(root, RECORD, trust)[0])
    return record, read_entry(root, record.plan)


def find_engine(
    root: Path, manifest: Manifest, *, folder: str | os.PathLike[str] | None = None, trust: Trust | None = None
) -> tuple[Path, EngineRecord, bytes]:
    """Return the folder of an opened bundle's engine, its record and its plan.

    ``folder`` None: the engine that ``xxdeploy build`` wrote next to the bundle, else the one inside it. Errors as
    :func:`read_engine` and :func:`read_own_engine`.
    """
    own, built = root / FOLDER, root.with_name(f"{root.name}{BUILT}")
    where = Path(folder) if folder is not None else built if (built / RECORD).is_file() else own
    if where == own and (own / RECORD).is_file():
        return where, *read_own_engine(root, manifest)
    return where, *read_engine(where, trust=trust)


def read_own_engine(root: Path, manifest: Manifest) -> tuple[EngineRecord, bytes]:
    """Return the engine inside a bundle, both files as the manifest lists them: its signature vouches for them, too.

    ``BundleError``: ``manifest-unlisted``, ``file-*``.
    """
    listed = {entry.path: entry for entry in manifest.files}
    try:
        entries = [listed[f"{FOLDER}/{name}"] for name in (RECORD, PLAN)]
    except KeyError as error:
        raise BundleError(
            f"the manifest does not list {error.args[0]}, so nothing vouches for it",
            hint="export the bundle again",
            code="manifest-unlisted",
        ) from error
    record, plan = (read_entry(root, entry) for entry in entries)
    return record_from_json(record), plan


def engine_of_another_model(folder: str | os.PathLike[str], digest: str) -> BundleError:
    """Return the error of an engine that does not belong to the bundle."""
    return BundleError(
        f"the engine in {folder} was built from another model ({digest[:12]}…)",
        hint="build it again: xxdeploy build BUNDLE",
        code="engine-of-another-model",
    )


def record_from_json(text: str | bytes) -> EngineRecord:
    """Read ``engine.json``; ``BundleError`` ``manifest-*`` for anything that is not exactly as written."""
    value = as_record(parse(text), _KEYS, RECORD)
    if value["schema"] != SCHEMA:
        raise BundleError(
            f"the engine has schema {str(value['schema'])[:40]}; this xxdeploy reads {SCHEMA}",
            hint="build it again: xxdeploy build BUNDLE",
            code="unknown-schema",
        )
    plan = as_record(value["plan"], ("sha256", "size"), "plan")
    target = typed(value["target"], str, "target")
    if target not in PLANS:
        raise wrong_value(f"target must be one of {', '.join(PLANS)}, not {target[:40]!r}")
    return EngineRecord(
        plan=FileEntry(PLAN, typed(plan["sha256"], str, "plan.sha256"), typed(plan["size"], int, "plan.size")),
        model_sha256=typed(value["model_sha256"], str, "model_sha256"),
        target=target,
        version=typed(value["version"], str, "version"),
        options=as_object(value["options"], "options"),
        proof=as_object(value["proof"], "proof"),
    )
