"""Makes keys and signs: the workstation's side of ``runtime.signature``. ``bundle.oms`` signs in another format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.errors import UsageError
from xxdeploy.files import sha256, write_atomic, write_new
from xxdeploy.optional import extra
from xxdeploy.runtime.bundle.files import read_small
from xxdeploy.runtime.bundle.manifest import MANIFEST
from xxdeploy.runtime.bundle.signature import (
    MAX_VERSION,
    OMS_SIGNATURE,
    SIGNATURES,
    Signature,
    Trust,
    fingerprint,
    key_error,
    message,
    read_key,
)
from xxdeploy.runtime.engines.engine_file import RECORD, read_engine

with extra("sign"):
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Format = Literal["ed25519", "oms"]
"""The format of a signature, and so the kind of its key: Ed25519, or P-256 for OpenSSF Model Signing."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two files: ``private`` signs and stays at home, ``public`` goes onto the devices. ``name``: the fingerprint."""

    private: Path
    public: Path
    name: str


def generate_key(name: str | os.PathLike[str], *, passphrase: bytes | None = None, kind: Format = "ed25519") -> KeyPair:
    """Make a key of a ``kind``: ``NAME.key`` (PKCS 8, readable by its owner only) and ``NAME.pub``, both PEM.

    ``passphrase`` encrypts the private key. ``UsageError``: ``key-exists`` (a key is never replaced),
    ``key-unwritable``, ``key-passphrase`` for an empty one.
    """
    if passphrase is not None and not passphrase:
        raise _passphrase("the passphrase is empty")
    private, public = Path(f"{os.fspath(name)}.key"), Path(f"{os.fspath(name)}.pub")
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_ec_key(SECP256R1())
    lock = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    shown = public_pem(key)
    try:
        for path in (private, public):
            if os.path.lexists(path):
                raise FileExistsError(path)
        private.parent.mkdir(parents=True, exist_ok=True)
        write_new(private, secret, mode=0o600)
        write_new(public, shown, mode=0o644)
    except FileExistsError as error:
        raise UsageError(
            f"{error.filename or error} already exists", hint="choose another name", code="key-exists"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the key {private} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="choose another folder",
            code="key-unwritable",
        ) from error
    named = fingerprint(_raw(key)) if isinstance(key, Ed25519PrivateKey) else pem_digest(key)
    return KeyPair(private, public, named)


def sign(
    folder: str | os.PathLike[str],
    key: str | os.PathLike[str],
    *,
    version: int,
    passphrase: bytes | None = None,
) -> Signature:
    """Check a bundle, or the folder of an engine, and sign it; an earlier signature is replaced.

    ``key`` is the private key's file; ``version`` numbers the release, from 1: devices can refuse older ones.
    ``BundleError`` as ``check_bundle`` or ``read_engine``: damaged bundles are not signed. ``UsageError``:
    ``version-invalid``, ``key-invalid``, ``key-passphrase``, ``signature-unwritable``.
    """
    if isinstance(version, bool) or not 1 <= version <= MAX_VERSION:
        raise UsageError(
            f"the version of a signature is 1 or more, not {version}",
            hint="count up by one with each release",
            code="version-invalid",
        )
    secret = private_key(key, passphrase)
    if not isinstance(secret, Ed25519PrivateKey):
        is_oms = isinstance(secret, EllipticCurvePrivateKey)
        hint = "sign with --format oms, or make" if is_oms else "make"
        raise key_error(str(key), "it is no Ed25519 key", f"{hint} one with `xxdeploy keygen`")
    root = Path(folder)
    name = RECORD if (root / RECORD).is_file() and not (root / MANIFEST).exists() else MANIFEST
    remove_leftovers(root)
    # Read once before and once after the check: the signed bytes are the checked ones.
    before = read_small(root.resolve(), name) if (root / name).is_file() else b""
    if name == MANIFEST:
        check_bundle(root)
    else:
        read_engine(root)
    public = _raw(secret)
    made = Signature(version, fingerprint(public), secret.sign(message(before, name, version)))
    Trust((public,)).version_of(read_small(root.resolve(), name), name, made.to_bytes())
    write_signature(root / SIGNATURES[name], made.to_bytes())
    return made


def remove_leftovers(root: Path) -> None:
    """Remove signatures that a killed run was writing: no manifest lists them."""
    for name in (*SIGNATURES.values(), OMS_SIGNATURE):
        for leftover in root.glob(f".{name}-*") if root.is_dir() else ():
            leftover.unlink(missing_ok=True)


def private_key(path: str | os.PathLike[str], passphrase: bytes | None) -> PrivateKeyTypes:
    """Read a private key of any kind. ``UsageError``: ``key-invalid``, ``key-passphrase``."""
    pem = read_key(path)
    locked = b"ENCRYPTED PRIVATE KEY" in pem
    if locked and passphrase is None:
        raise _passphrase(f"{path} is encrypted")
    try:
        key = serialization.load_pem_private_key(pem, passphrase if locked else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if locked:
            raise _passphrase(f"{path} does not open with this passphrase, or is damaged") from error
        raise key_error(str(path), "it is no private key, or damaged", "give the file that ends in .key") from error
    return key


def public_pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    """Return the public half of a key in PEM (SubjectPublicKeyInfo)."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def pem_digest(key: EllipticCurvePrivateKey) -> str:
    """Return the name of a key in OpenSSF Model Signing: the SHA-256 of its public PEM, in hexadecimal."""
    return sha256(public_pem(key)).hexdigest()


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _passphrase(why: str) -> UsageError:
    return UsageError(
        why, hint="give a file with the passphrase in its first line: --passphrase FILE", code="key-passphrase"
    )


def write_signature(path: Path, content: bytes) -> None:
    """Write or replace a signature. ``UsageError`` ``signature-unwritable``."""
    try:
        write_atomic(path, content)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check the permissions and the disk",
            code="signature-unwritable",
        ) from error
