"""``xxdeploy sign`` and ``xxdeploy keygen``: sign a bundle or an engine, and create the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, print_facts, print_json, print_line
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

EXAMPLE = """Examples:

  xxdeploy sign exports/mobilenetv2-int8 --key release.key --as-version 3
  xxdeploy sign exports/mobilenetv2-int8-engine --key release.key --as-version 3
  xxdeploy sign exports/mobilenetv2-int8 --format oms --key oms.key"""
KEYGEN_EXAMPLE = "Examples:\n\n  xxdeploy keygen release\n  xxdeploy keygen oms --format oms"


def command(
    folder: Path,
    /,
    *,
    key: Path,
    as_version: Annotated[int | None, Parameter(name="--as-version")] = None,
    format: Literal["ed25519", "oms"] = "ed25519",
    passphrase: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Check the hashes of a bundle or an engine, and sign it.

    Parameters
    ----------
    folder
        Folder written by `xxdeploy export` or `xxdeploy build`.
    key
        Private key (.key) of `xxdeploy keygen`.
    as_version
        Number of this release. Increase it with each release: `--min-version` lets devices refuse older ones.
    format
        ed25519 is checked by xxdeploy (`--key`). oms writes model.sig for other tools, such as `model_signing verify`:
        OpenSSF Model Signing, which has no version. A bundle may have both.
    passphrase
        File whose first line is the passphrase of the private key.
    """
    if format == "oms":
        if as_version is not None:
            raise UsageError(
                "a signature of --format oms has no version",
                hint="leave --as-version out, or sign with --format ed25519, too",
                code="oms-version",
            )
        with extra("sign"):
            from xxdeploy.bundle.oms import sign_oms
        written = sign_oms(folder, key, passphrase=_passphrase(passphrase))
        if as_json:
            print_json({"folder": folder, "version": None, "key": written.key})
        else:
            print_line(f"{written.path}: {written.files} files signed with the key {written.key}")
        return
    if as_version is None:
        raise UsageError(
            "`xxdeploy sign` needs --as-version, the number of this release",
            hint="begin with --as-version 1, and count up by one with each release",
            code="missing-argument",
        )
    with extra("sign"):
        from xxdeploy.bundle.sign import sign
    made = sign(folder, key, version=as_version, passphrase=_passphrase(passphrase))
    if as_json:
        print_json({"folder": folder, "version": made.version, "key": made.key})
    else:
        print_line(f"{folder}: signed as version {made.version} with the key {made.key}")


def keygen(
    name: Path,
    /,
    *,
    format: Literal["ed25519", "oms"] = "ed25519",
    passphrase: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Create a key pair: NAME.key signs and stays with you, NAME.pub goes to those who check.

    Parameters
    ----------
    name
        Path of the two files, without their suffix.
    format
        Format of the signatures that the key will make: ed25519, or oms for a key on the curve P-256.
    passphrase
        File whose first line encrypts the private key.
    """
    with extra("sign"):
        from xxdeploy.bundle.sign import generate_key
    pair = generate_key(name, passphrase=_passphrase(passphrase), kind=format)
    where = "for the devices: load(..., key=...), verify --key" if format == "ed25519" else "model_signing verify key"
    if as_json:
        print_json(pair)
        return
    print_facts(
        {
            "private": f"{pair.private} (keep it secret)",
            "public": f"{pair.public} ({where})",
            "name": pair.name,
        }
    )


def _passphrase(path: Path | None) -> bytes | None:
    """Return the first line of a file, without its end."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.readline(4096).rstrip(b"\r\n")
    except OSError as error:
        raise UsageError(
            f"the passphrase file {path} cannot be read: {error.strerror or error}",
            hint="give a file with the passphrase on its first line",
            code="key-passphrase",
        ) from error
