"""``xxdeploy sign``: vouch for a bundle or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, print_json, print_line
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

NAME = "sign"
EXAMPLE = """Examples:

  xxdeploy sign exports/mobilenetv2-int8 --key release.key --as-version 3
  xxdeploy sign exports/mobilenetv2-int8-engine --key release.key --as-version 3"""


def command(
    folder: Path,
    /,
    *,
    key: Path,
    as_version: Annotated[int, Parameter(name="--as-version")],
    passphrase: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Sign a bundle, or an engine that was built from one, after checking that it is whole.

    Parameters
    ----------
    folder
        What `xxdeploy export` or `xxdeploy build` wrote.
    key
        Private key (.key) of `xxdeploy keygen`.
    as_version
        Number of this release. Count up: devices can refuse what is older than `--min-version`.
    passphrase
        File whose first line opens the private key.
    """
    with extra("sign"):
        from xxdeploy.bundle.sign import sign
    made = sign(folder, key, version=as_version, passphrase=read_passphrase(passphrase))
    if as_json:
        print_json({"folder": folder, "version": made.version, "key": made.key})
    else:
        print_line(f"{folder}: signed as version {made.version} with the key {made.key}")


def read_passphrase(path: Path | None) -> bytes | None:
    """Return the first line of a file, without its end."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.readline(4096).rstrip(b"\r\n")
    except OSError as error:
        raise UsageError(
            f"the passphrase cannot be read from {path}: {error.strerror or error}",
            hint="give a file whose first line it is",
            code="key-passphrase",
        ) from error
