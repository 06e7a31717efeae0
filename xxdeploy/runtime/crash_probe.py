"""Tries an engine in a process of its own first: a library that crashes would take its caller with it."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import asdict
from pathlib import Path

from xxdeploy.files import child_python
from xxdeploy.runtime.bundle.manifest import Variant
from xxdeploy.runtime.engines.select import Settings

_CODE = """
import json, sys
from xxdeploy.runtime.engines.select import Settings, open_session
from xxdeploy.runtime.bundle.files import open_bundle, read_entry
from xxdeploy.runtime.selftest import run_selftest
root, name, settings = json.loads(sys.argv[1])
root, manifest = open_bundle(root)
variant = next(variant for variant in manifest.variants if variant.name == name)
entry = next(entry for entry in manifest.files if entry.path == variant.model)
session = open_session(read_entry(root, entry), manifest, variant, Settings(**settings))
run_selftest(session, root, manifest, variant)
"""
_SECONDS = 120.0


def crash_of(root: Path, variant: Variant, settings: Settings, *, code: str = _CODE) -> str | None:
    """Load a variant and run its golden inputs in a child process; return how that was killed, None if it was not.

    An exception of the engine is no crash: the caller will get it, too. ``code`` runs in the process, with (root,
    variant, settings) as JSON in its first argument. None, too, where no process can be started.
    """
    command, environment = child_python("-c", code, json.dumps([str(root), variant.name, asdict(settings)]))
    try:
        status = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_SECONDS
        ).returncode
    except subprocess.TimeoutExpired:
        return f"{settings.engine} did not answer within {_SECONDS:.0f} seconds"
    except OSError:
        return None
    if status < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"{settings.engine} crashes on this model ({known.get(-status, -status)})"
    # Windows has no signals: an access violation or an abort is a status of 32 bits.
    return f"{settings.engine} crashes on this model (status {status:#x})" if status >= 1 << 30 else None
