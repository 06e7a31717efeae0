"""The signed bundles of the conformance suite. Its two keys are made from fixed numbers, and sign nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from xxdeploy.runtime.bundle.signature import Signature, fingerprint, message

SIGNED = "classes"
"""The bundle that key ``a`` signs."""
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.sig"
_PRIVATE = {name: Ed25519PrivateKey.from_private_bytes(name.encode() * 32) for name in ("a", "b")}
KEYS = {
    name: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, key in _PRIVATE.items()
}
"""The public keys as PEM."""


def sign(bundle: Path, key: str, *, version: int) -> None:
    """Write the signature of a bundle by one of the two keys."""
    private = _PRIVATE[key]
    name = fingerprint(private.public_key().public_bytes_raw())
    value = private.sign(message((bundle / _MANIFEST).read_bytes(), _MANIFEST, version))
    (bundle / _SIGNATURE).write_bytes(Signature(version, name, value).to_bytes())


def refused_signatures(root: Path) -> list[dict[str, Any]]:
    """Write bundles whose signature must be refused; return their entries of ``expected.json``."""
    made = []

    def add(name: str, code: str, *, key: str = "a", min_version: int = 0) -> Path:
        folder = root / "hostile" / f"signature-{name}"
        shutil.copytree(root / "bundles" / SIGNED, folder)
        entry = {"name": folder.name, "bundle": f"hostile/{folder.name}", "when": "load", "needs": ["signature"]}
        made.append(entry | {"code": code, "key": f"keys/{key}.pub", "min_version": min_version})
        return folder

    (add("missing", "signature-missing") / _SIGNATURE).unlink()
    (add("empty", "signature-damaged") / _SIGNATURE).write_bytes(b"")
    folder = add("of-windows-lines", "signature-damaged")
    (folder / _SIGNATURE).write_bytes((folder / _SIGNATURE).read_bytes().replace(b"\n", b"\r\n"))
    folder = add("with-more", "signature-damaged")
    (folder / _SIGNATURE).write_bytes((folder / _SIGNATURE).read_bytes() + b"more\n")
    add("of-another-key", "signature-key", key="b")
    folder = add("of-other-bytes", "signature-wrong")
    document = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    document["evidence"] = {"accuracy": 1.0}
    (folder / _MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    folder = add("of-another-version", "signature-wrong")
    (folder / _SIGNATURE).write_bytes((folder / _SIGNATURE).read_bytes().replace(b"version 3", b"version 4"))
    folder = add("with-a-changed-bit", "signature-wrong")
    text = (folder / _SIGNATURE).read_text()
    (folder / _SIGNATURE).write_text(text[:-2] + ("0" if text[-2] != "0" else "1") + "\n")
    add("old", "signature-old", min_version=4)
    return made
