"""``xxdeploy keygen``: a key to sign bundles with."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, print_facts, print_json
from xxdeploy.cli.sign import read_passphrase
from xxdeploy.optional import extra

NAME = "keygen"
EXAMPLE = "Example:\n\n  xxdeploy keygen release"


def command(name: Path, /, *, passphrase: Path | None = None, as_json: AsJson = False) -> None:
    """Make an Ed25519 key: NAME.key, which signs and stays with you, and NAME.pub, which goes onto the devices.

    Parameters
    ----------
    name
        Path of the two files, without their ending.
    passphrase
        File whose first line encrypts the private key.
    """
    with extra("sign"):
        from xxdeploy.bundle.sign import generate_key
    pair = generate_key(name, passphrase=read_passphrase(passphrase))
    if as_json:
        print_json(pair)
        return
    print_facts(
        {
            "private": f"{pair.private} (keep it to yourself)",
            "public": f"{pair.public} (for the devices: load(..., key=...), verify --key)",
            "name": pair.name,
        }
    )
