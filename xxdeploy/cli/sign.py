"""``xxdeploy sign`` and ``xxdeploy keygen``: sign a bundle or an engine, and create the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, print_facts, print_json, print_line
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

EXAMPLE = """Examples:

  xxdeploy sign exports/mobilenetv2-int8 --key release.key --as-version 3
  xxdeploy sign exports/mobilenetv2-int8-engine --key release.key --as-version 3"""
KEYGEN_EXAMPLE = "Example:\n\n  xxdeploy keygen release"


def command(
    folder: Path,
    /,
    *,
    key: Path,
    as_version: Annotated[int, Parameter(name="--as-version")],
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
    passphrase
        File whose first line is the passphrase of the private key.
    """
    with extra("sign"):
        from xxdeploy.bundle.sign import sign
    made = sign(folder, key, version=as_version, passphrase=_passphrase(passphrase))
    if as_json:
        print_json({"folder": folder, "version": made.version, "key": made.key})
    else:
        print_line(f"{folder}: signed as version {made.version} with the key {made.key}")


def keygen(name: Path, /, *, passphrase: Path | None = None, as_json: AsJson = False) -> None:
    """Create an Ed25519 key pair: NAME.key signs and stays with you, NAME.pub goes onto the devices.

    Parameters
    ----------
    name
        Path of the two files, without their suffix.
    passphrase
        File whose first line encrypts the private key.
    """
    with extra("sign"):
        from xxdeploy.bundle.sign import generate_key
    pair = generate_key(name, passphrase=_passphrase(passphrase))
    if as_json:
        print_json(pair)
        return
    print_facts(
        {
            "private": f"{pair.private} (keep it secret)",
            "public": f"{pair.public} (for the devices: load(..., key=...), verify --key)",
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
