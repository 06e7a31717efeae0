"""Signs a bundle or an engine in the format of OpenSSF Model Signing 1.0, which other tools than xxdeploy check.

``model.sig`` is a Sigstore bundle (version 0.3) with a DSSE envelope. Its payload is an in-toto statement: the SHA-256
of every file of the folder except its signatures. It is signed with ECDSA on the curve P-256, P-384 or P-521. Formats:
https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md and
https://github.com/in-toto/attestation/tree/main/spec/v1. ``scripts/check_oms.py`` lets the package ``model-signing``
check such a signature.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.bundle.sign import pem_digest, private_key, remove_leftovers, write_signature
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.files import sha256
from xxdeploy.optional import extra
from xxdeploy.runtime.bundle.files import read_small
from xxdeploy.runtime.bundle.manifest import MANIFEST
from xxdeploy.runtime.bundle.signature import OMS_SIGNATURE, SIGNATURES, key_error
from xxdeploy.runtime.engines.engine_file import PLAN, RECORD, read_engine

with extra("sign"):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
PAYLOAD = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
UNSIGNED = (*SIGNATURES.values(), OMS_SIGNATURE, ".git", ".gitattributes", ".github", ".gitignore")
"""Paths that a check ignores: the signatures, and those that a repository of models adds."""
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class OmsSignature:
    """A signature that was written: its file, the number of files that it covers, and the SHA-256 of the public PEM."""

    path: Path
    files: int
    key: str


def sign_oms(
    folder: str | os.PathLike[str], key: str | os.PathLike[str], *, passphrase: bytes | None = None
) -> OmsSignature:
    """Check a bundle, or the folder of an engine, and write ``model.sig``; an earlier one is replaced.

    ``key`` is the file of a private key on one of the three curves. ``BundleError`` as ``check_bundle`` or
    ``read_engine``: damaged bundles are not signed. ``UsageError``: ``key-invalid``, ``key-passphrase``, ``oms-link``,
    ``signature-unwritable``.
    """
    secret = private_key(key, passphrase)
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.curve.name not in _HASHES:
        hint = "make one with `xxdeploy keygen NAME --format oms`, or sign with --format ed25519"
        raise key_error(str(key), "it is no key on the curve P-256, P-384 or P-521", hint)
    root = Path(folder)
    remove_leftovers(root)
    name, files = _files(root)
    payload = json.dumps(statement(name, files), indent=1, sort_keys=True).encode()
    value = secret.sign(pae(payload), ec.ECDSA(_HASHES[secret.curve.name]))
    document = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": pem_digest(secret)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(value).decode(), "keyid": ""}],
        },
    }
    write_signature(root / OMS_SIGNATURE, json.dumps(document, indent=1).encode() + b"\n")
    return OmsSignature(root / OMS_SIGNATURE, len(files), pem_digest(secret))


def statement(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Return the in-toto statement about files: the SHA-256 of each by its path, in hexadecimal.

    Its subject is the SHA-256 over the digests of all files, in the order of the parts of their paths.
    """
    paths = sorted(files, key=lambda path: path.split("/"))
    root = sha256(b"".join(bytes.fromhex(files[path]) for path in paths)).hexdigest()
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(UNSIGNED),
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in paths],
        },
    }


def pae(payload: bytes) -> bytes:
    """Return the bytes that a DSSE envelope signs: its pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _files(root: Path) -> tuple[str, dict[str, str]]:
    """Check a folder; return its name, and the digest of each file by its path. The digests are the checked ones."""
    is_engine = (root / RECORD).is_file() and not (root / MANIFEST).exists()
    record = RECORD if is_engine else MANIFEST
    before = read_small(root.resolve(), record) if (root / record).is_file() else b""
    if is_engine:
        checked, _ = read_engine(root)
        name, files = root.resolve().name, {PLAN: checked.plan.sha256}
    else:
        manifest = check_bundle(root)
        name, files = manifest.name, {entry.path: entry.sha256 for entry in manifest.files}
    if read_small(root.resolve(), record) != before:
        raise BundleError(
            f"{record} was changed while it was signed", hint="sign it when nothing writes to it", code="file-hash"
        )
    if links := [path.name for path in root.rglob("*") if path.is_symlink()]:
        raise UsageError(
            f"{links[0]} is a link, and checks of this format refuse folders with links",
            hint="copy the folder with its files (cp -rL), and sign the copy",
            code="oms-link",
        )
    return name, {**files, record: sha256(before).hexdigest()}
