"""The JSON Schema (2020-12) of what each command prints with ``--json``, from the dataclasses that it prints."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import quote

from xxdeploy.batch.records import JobRecord
from xxdeploy.bundle.sign import KeyPair
from xxdeploy.cache import Removed
from xxdeploy.convert.user_model.examine import ExaminedModel
from xxdeploy.diagnose.sensitivity import Sensitivity
from xxdeploy.doctor.checkup import Checkup
from xxdeploy.exporter import ExportResult
from xxdeploy.exporter.result import VerifyResult
from xxdeploy.models.catalog import ModelSpec
from xxdeploy.report.bundles import ReportFile
from xxdeploy.runtime import Prediction
from xxdeploy.runtime.bench import BenchResult
from xxdeploy.runtime.tune import Tuning
from xxdeploy.verify.describe import OnnxFacts

Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},  # NaN and infinity are null
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
}
_TEXT, _NUMBERS = _PLAIN[str], {"type": ["array", "null"], "items": {"type": "number"}}


def json_schema() -> Schema:
    """Return one document: ``$defs`` has an entry for each command, for an error, and for each type in them."""
    defs: Schema = {}

    def of(kind: Any) -> Schema:
        return _schema(kind, defs)

    problem = _object({"code": _TEXT, "message": _TEXT, "hint": {"type": ["string", "null"]}})
    shares = {"type": "object", "additionalProperties": {"type": "number"}}
    size = {"type": "array", "items": _PLAIN[int], "minItems": 2, "maxItems": 2}
    picture = {"image": _TEXT, "out": _TEXT, "size": size, "mode": _TEXT, "classes": shares}
    commands = {
        "export": of(ExportResult),
        "export, many": _object({"cells": _list(of(JobRecord)), "summary": _list(_TEXT)}),
        "verify": of(VerifyResult),
        "predict": _object({"bundle": _TEXT, "images": _list(_object({"image": _TEXT, "top": _list(of(Prediction))}))}),
        "predict, pictures": _object({"bundle": _TEXT, "images": _list(_object(picture))}),
        "predict, values": _object({"bundle": _TEXT, "images": _list(_object({"image": _TEXT, "values": _list({})}))}),
        "models": _list(_and(of(ModelSpec), {"widths": _NUMBERS, "sizes": _NUMBERS}, defs)),
        "bench": _list(_and(of(BenchResult), {"path": _TEXT}, defs)),
        "tune": _object({"sentences": _list(_TEXT), "choice": {}, "tuning": of(Tuning)}),
        "report": _object({"page": _TEXT, "rows": _fields(ReportFile, defs)["rows"]}),
        "inspect, ONNX file": _and(of(OnnxFacts), {"file": _TEXT}, defs),
        "inspect, --sensitivity": _and(of(Sensitivity), {"file": _TEXT}, defs),
        "inspect or doctor, Keras file": _and(
            of(ExaminedModel),
            {"exports": _PLAIN[bool], "problem": {"anyOf": [problem, {"type": "null"}]}},
            defs,
        ),
        "doctor": of(Checkup),
        "cache": _object(
            {
                "folder": {"type": ["string", "null"]},
                "limit_bytes": _PLAIN[int],
                "parts": _list(_object({"name": _TEXT, "files": _PLAIN[int], "bytes": _PLAIN[int]})),
                "removed": of(Removed),
            }
        ),
        "example": _list(_object({"name": _TEXT, "about": _TEXT})),
        "example, copy": _object({"name": _TEXT, "files": _list(_TEXT)}),
        "keygen": of(KeyPair),
        "sign": _object({"folder": _TEXT, "version": {"type": ["integer", "null"]}, "key": _TEXT}),
        "error": _object({"error": problem}, closed=False),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The output of xxdeploy --json",
        "description": "Made by scripts/json_schema.py. `inspect BUNDLE --json` prints manifest.json itself.",
        "$defs": {**commands, **dict(sorted(defs.items()))},
    }


def schema_of(command: str) -> Schema:
    """Return a schema that validates the output of one ``command``, one of the names in ``$defs``."""
    document = json_schema()
    return {**document, "$ref": f"#/$defs/{quote(command)}"}


def _object(properties: Mapping[str, Schema], *, closed: bool = True) -> Schema:
    more = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": dict(properties), "required": list(properties), **more}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _and(base: Schema, properties: Mapping[str, Schema], defs: Schema) -> Schema:
    """Return the object of a dataclass with more properties."""
    named = defs[base["$ref"].rpartition("/")[2]]
    return _object({**named["properties"], **properties})


def _fields(kind: Any, defs: Schema) -> dict[str, Schema]:
    hints = get_type_hints(kind)
    return {field.name: _schema(hints[field.name], defs) for field in dataclasses.fields(kind)}


def _schema(kind: Any, defs: Schema) -> Schema:
    """Return the schema of a type; dataclasses get an entry in ``defs``."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, typing.ForwardRef):  # JsonValue, whose definition holds itself
        return {}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema(part, defs) for part in arguments]}
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = [_schema(part, defs) for part in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], defs)}
    if isinstance(origin, type) and issubclass(origin, (Sequence, Collection)):
        return _list(_schema(arguments[0], defs))
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return _TEXT
    if isinstance(kind, type) and issubclass(kind, Exception):
        return {}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        name = kind.__name__
        if name not in defs:
            defs[name] = {}  # a type may hold itself
            defs[name] = _object(_fields(kind, defs))
        return {"$ref": f"#/$defs/{name}"}
    raise TypeError(f"no schema for {kind}")
