"""Ed25519 signatures of bundles and engines, checked before any parser sees the record.

The signature lies next to the record that it covers (``manifest.json`` or ``engine.json``), which holds the hash of
every other file. It is four lines of ASCII, so that very little is read before it is trusted::

    xxdeploy-signature 1
    version 7
    key 1f0c5b6d2a...            which key: the first 128 bits of the SHA-256 of the public key
    signature 64 bytes in hexadecimal

The signed bytes are three lines (``xxdeploy-signature 1``, the record's name, ``version N``) and then the bytes of
the record, so neither the version nor the kind of record can be exchanged. Ed25519: RFC 8032, with the library
``cryptography``, imported when a key is given.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from xxdeploy.errors import BundleError, UsageError
from xxdeploy.files import sha256
from xxdeploy.optional import extra

KeyLike: TypeAlias = "str | os.PathLike[str] | bytes"
SIGNATURES = {"manifest.json": "manifest.sig", "engine.json": "engine.sig"}
"""The signature's file for each kind of record."""
OMS_SIGNATURE = "model.sig"
"""The file of a signature in the format of OpenSSF Model Signing, which the runtime does not read."""
MAX_SIGNATURE_BYTES = 1024
MAX_KEY_BYTES = 1 << 16
MAX_VERSION = (1 << 63) - 1
_HEADER = "xxdeploy-signature 1"
# Compiled when there is something to read: compiling takes 1 ms of every start.
_FORM = rb"xxdeploy-signature 1\nversion (0|[1-9][0-9]{0,18})\nkey ([0-9a-f]{32})\nsignature ([0-9a-f]{128})\n"
_PEM = rb"-----BEGIN PUBLIC KEY-----[A-Za-z0-9+/=\s]{1,4096}-----END PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class Signature:
    """The content of a signature file, which proves nothing before ``Trust.version_of`` has returned."""

    version: int
    key: str
    value: bytes

    def to_bytes(self) -> bytes:
        """Write the four lines."""
        return f"{_HEADER}\nversion {self.version}\nkey {self.key}\nsignature {self.value.hex()}\n".encode()


@dataclass(frozen=True, slots=True)
class Trust:
    """The condition under which a record is parsed.

    ``keys`` are public keys, 32 bytes each, any one of which will do (two while a key is being replaced);
    ``min_version`` is the oldest version that is still accepted.
    """

    keys: tuple[bytes, ...]
    min_version: int = 0

    def version_of(self, record: bytes, name: str, signature: bytes | None) -> int:
        """Return the version that ``record``, the bytes of file ``name``, was signed as.

        ``signature`` holds the bytes of its signature file, None if there is none. ``BundleError``:
        ``signature-missing``, ``signature-damaged`` (not the four lines), ``signature-key`` (of a key that is not
        trusted), ``signature-wrong`` (of other bytes), ``signature-old`` (below ``min_version``).
        ``MissingDependencyError``: cryptography is not installed.
        """
        if signature is None:
            raise BundleError(
                f"{name} is not signed, and a key is required",
                hint="get the bundle from a source you trust; its owner signs it with `xxdeploy sign`",
                code="signature-missing",
            )
        claimed = signature_from_bytes(signature, name)
        key = next((key for key in self.keys if fingerprint(key) == claimed.key), None)
        if key is None:
            raise BundleError(
                f"{name} is signed with the key {claimed.key[:12]}…, which is not trusted here "
                f"(trusted: {', '.join(fingerprint(key)[:12] + '…' for key in self.keys)})",
                hint="do not use the bundle, unless you know the owner of that key",
                code="signature-key",
            )
        if not _is_signed(key, claimed.value, message(record, name, claimed.version)):
            raise BundleError(
                f"the signature of {name} is not right: it was made for other bytes or another version",
                hint="the file was changed after it was signed: get the bundle again from a source you trust",
                code="signature-wrong",
            )
        if claimed.version < self.min_version:
            raise BundleError(
                f"{name} is version {claimed.version}, older than {self.min_version}",
                hint="an old bundle was put in place of a newer one: get the newest",
                code="signature-old",
            )
        return claimed.version


def trust(key: KeyLike | None, min_version: int = 0) -> Trust | None:
    """Read the public keys of a PEM file (or its bytes); None returns None.

    ``UsageError``: ``key-invalid`` (unreadable, damaged, a private key, or of another kind than Ed25519),
    ``min-version-without-key``, ``version-invalid``.
    """
    if not isinstance(min_version, int) or isinstance(min_version, bool) or not 0 <= min_version <= MAX_VERSION:
        raise UsageError(
            f"a version is a whole number of 0 or more, not {str(min_version)[:40]}",
            hint="count up by one with each release",
            code="version-invalid",
        )
    if key is None:
        if min_version:
            raise UsageError(
                "without a key anybody can write any version number",
                hint="give the public key, too",
                code="min-version-without-key",
            )
        return None
    data, name = (key, "the key") if isinstance(key, bytes) else (read_key(key), str(key))
    if b"PRIVATE KEY" in data:
        raise key_error(name, "it is a private key, which belongs on no device", "give the file that ends in .pub")
    blocks = re.findall(_PEM, data)
    if not blocks or re.sub(_PEM, b"", data).strip():
        raise key_error(name, "it is not a PEM file of public keys", "copy the file that `xxdeploy keygen` wrote")
    return Trust(tuple(_raw_key(block, name) for block in blocks), min_version)


def message(record: bytes, name: str, version: int) -> bytes:
    """Return the bytes that are signed."""
    return f"{_HEADER}\n{name}\nversion {version}\n".encode() + record


def fingerprint(public: bytes) -> str:
    """Return 32 hexadecimal digits that name a public key of 32 bytes."""
    return sha256(public).hexdigest()[:32]


def signature_from_bytes(data: bytes, name: str) -> Signature:
    """Read the four lines; ``BundleError`` ``signature-damaged`` for anything else."""
    form = re.fullmatch(_FORM, data)
    if form is None or int(form[1]) > MAX_VERSION:
        raise BundleError(f"the signature of {name} is damaged", hint="copy the bundle again", code="signature-damaged")
    return Signature(int(form[1]), form[2].decode(), bytes.fromhex(form[3].decode()))


def key_error(name: str, why: str, hint: str) -> UsageError:
    """Return the error for a key file that cannot be used."""
    return UsageError(f"{name} cannot be used as a key: {why}", hint=hint, code="key-invalid")


def read_key(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a key file, which are then checked to be a key."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except (OSError, ValueError) as error:
        raise key_error(str(path), str(getattr(error, "strerror", None) or error), "check the path") from error


def _raw_key(pem: bytes, name: str) -> bytes:
    load, kind, encoding, form = _library("load_pem_public_key", "Ed25519PublicKey", "Encoding", "PublicFormat")
    try:
        key = load(pem)
    except Exception as error:  # ValueError, and classes of the library that it does not export
        raise key_error(name, "it is damaged", "copy the file that `xxdeploy keygen` wrote") from error
    if not isinstance(key, kind):
        hint = "make one with `xxdeploy keygen`; the signature of `xxdeploy sign --format oms` is checked by "
        raise key_error(name, "it is no Ed25519 key", f"{hint}`model_signing verify key`, not by the runtime")
    raw: bytes = key.public_bytes(encoding.Raw, form.Raw)
    return raw


def _is_signed(public: bytes, value: bytes, data: bytes) -> bool:
    kind, invalid = _library("Ed25519PublicKey", "InvalidSignature")
    try:
        kind.from_public_bytes(public).verify(value, data)
    except invalid:
        return False
    return True


def _library(*names: str) -> list[Any]:
    """Import late: only a check of a signature needs the library."""
    with extra("sign"):
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    homes: tuple[Any, ...] = (exceptions, serialization, ed25519)
    return [next(getattr(home, name) for home in homes if hasattr(home, name)) for name in names]
