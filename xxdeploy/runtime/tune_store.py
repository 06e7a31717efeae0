"""Stores the choice of ``tune`` for one device, bundle and set of engines, and returns it to ``load``.

One small JSON file for each bundle and device, in the user's cache folder. A file with any fault counts as absent:
``load`` goes on with the defaults, ``tune`` measures again.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from xxdeploy import __version__
from xxdeploy.cores import cores
from xxdeploy.cpu import cpu_features, cpuinfo
from xxdeploy.files import cache_folder, read_bounded, sha256, write_atomic
from xxdeploy.runtime.bundle.manifest import Manifest, Variant
from xxdeploy.runtime.engines.select import LITERT, Settings, engine_version

_FORMAT = 1
_MAX_BYTES = 1 << 16
_PART = "tuned"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """The fastest way to run a bundle: the name of a variant and the settings of its engine.

    ``versions`` are those of the engines that were tried ("": broken); ``milliseconds`` and ``default_milliseconds``
    are the times of one image with this choice and with the defaults.
    """

    variant: str
    settings: Settings
    versions: Mapping[str, str]
    milliseconds: float
    default_milliseconds: float


def device_facts() -> dict[str, str | int | list[str]]:
    """Return the facts on which a choice depends: the processor's name and features, and the number of usable cores."""
    fields = (line.partition(":") for line in cpuinfo().splitlines())
    named = {key.strip(): value.strip() for key, _, value in fields}
    # x86 has a name; ARM's parts have numbers.
    name = named.get("model name") or " ".join(
        named[key] for key in ("CPU implementer", "CPU part", "Hardware", "Model") if key in named
    )
    return {
        "processor": name or platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "features": sorted(cpu_features()),
        "cores": cores(),
    }


def bundle_digest(manifest: Manifest) -> str:
    """Return the SHA-256 over every file's hash and the variants, on which a measurement of this bundle depends."""
    facts = [[(entry.path, entry.sha256) for entry in manifest.files], list(map(asdict, manifest.variants))]
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def stored_choice(manifest: Manifest, *, engines: Iterable[str] = ()) -> Choice | None:
    """Return the choice for this bundle on this device; None if there is none that can be trusted.

    It is dropped when its engine, or xxdeploy, has another version than when it was measured. ``engines`` are those
    that a fresh measurement would try: it is dropped, too, if one of them was not there then. That one is not imported,
    so a new version of an engine that was not chosen changes nothing before the next ``xxdeploy tune``. Raises nothing.
    """
    path, known = _place(manifest)
    if path is None:
        return None
    try:
        record = json.loads(read_bounded(path, _MAX_BYTES))
        if any(record[key] != value for key, value in known.items()):
            return None
        variant = next(variant for variant in manifest.variants if variant.name == record["variant"])
        choice = Choice(
            variant.name,
            Settings(**record["settings"]),
            {str(engine): str(version) for engine, version in record["versions"].items()},
            float(record["milliseconds"]),
            float(record["default_milliseconds"]),
        )
        engine = choice.settings.engine
        if not (cpu_features() | {engine}).issuperset(variant.requires):  # a LiteRT file requires its engine
            return None
        if choice.versions.get(engine) != engine_version(engine) or not set(engines) <= choice.versions.keys():
            _log.debug("%s: the engines are others than when it was tuned", path)
            return None
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - the file may hold anything
        _log.debug("%s is not usable: %s", path, error)
        return None
    return choice


def store_choice(manifest: Manifest, choice: Choice) -> Path | None:
    """Write the choice for this bundle on this device; return the file, or log why it cannot be written."""
    path, known = _place(manifest)
    if path is None:
        return None
    record = {**known, "name": manifest.name, **asdict(choice)}
    try:
        write_atomic(path, json.dumps(record, indent=1, sort_keys=True))
        from xxdeploy.cache import trim  # here, since a start that only reads a choice does not need it

        trim(path)
    except OSError as error:
        _log.warning("the choice could not be kept in %s: %s", path.parent, error)
        return None
    return path


def _place(manifest: Manifest) -> tuple[Path | None, dict[str, object]]:
    """Return the file of this bundle on this device (None: there is no cache), and the facts that it must hold."""
    folder, device, digest = cache_folder(_PART), device_facts(), bundle_digest(manifest)
    key = sha256(json.dumps([device, digest], sort_keys=True).encode()).hexdigest()[:32]
    known = {"format": _FORMAT, "xxdeploy": __version__, "device": device, "bundle": digest}
    return None if folder is None else folder / f"{key}.json", known


def runnable_variants(manifest: Manifest, features: frozenset[str]) -> tuple[Variant, ...]:
    """Return the variant of each precision that ``load`` would take here, in the order of ``load``'s preference.

    Other variants of the same precision are made for other processors, and may be less accurate.
    """
    by_precision: dict[tuple[str, bool], Variant] = {}
    for variant in manifest.variants:
        if features.issuperset(variant.requires):
            by_precision.setdefault((variant.precision, LITERT in variant.requires), variant)
    return tuple(sorted(by_precision.values(), key=lambda variant: LITERT in variant.requires))
