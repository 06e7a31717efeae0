"""Signatures in the format of OpenSSF Model Signing, judged by the public formats and by that package's own."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from xxdeploy.bundle.folder import check_bundle, output_writable
from xxdeploy.bundle.oms import sign_oms, statement
from xxdeploy.bundle.sign import generate_key, sign
from xxdeploy.errors import BundleError, UsageError
from xxdeploy.runtime import load

FILE = "model.sig"
RECORDED = json.loads((Path(__file__).parent / "oms_recorded.json").read_text(encoding="utf-8"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return generate_key(tmp_path / "oms", kind="oms").private


@pytest.fixture
def signed(bundle: Path, key: Path) -> Path:
    sign_oms(bundle, key)
    return bundle


def opened(signature: Any, public: str) -> dict[str, Any]:
    """The statement of a signature that is right, by DSSE 1.0 and without our code."""
    assert signature["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    key = serialization.load_pem_public_key(public.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert signature["verificationMaterial"]["publicKey"]["hint"] == hashlib.sha256(public.encode()).hexdigest()
    envelope = signature["dsseEnvelope"]
    kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"])
    encoded = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    (one,) = envelope["signatures"]
    key.verify(base64.b64decode(one["sig"]), encoded, ec.ECDSA(hashes.SHA256()))
    value: dict[str, Any] = json.loads(payload)
    return value


def shape(value: Any) -> Any:
    """The keys of a document and the types of its values."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value)


def test_the_signature_covers_every_file(signed: Path) -> None:
    said = opened(json.loads((signed / FILE).read_text()), (signed.parent / "oms.pub").read_text())
    digests = {resource["name"]: resource["digest"] for resource in said["predicate"]["resources"]}
    assert digests == {
        path.relative_to(signed).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in signed.rglob("*")
        if path.is_file() and path.name != FILE
    }
    total = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()
    assert said["subject"] == [{"name": "tiny-0", "digest": {"sha256": total}}]


def test_it_is_the_statement_that_the_package_itself_makes(signed: Path) -> None:
    theirs = opened(RECORDED["signature"], RECORDED["public"])
    files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in RECORDED["files"].items()}
    ours = statement("model", files)
    assert set(theirs["predicate"]["serialization"].pop("ignore_paths")) < set(
        ours["predicate"]["serialization"].pop("ignore_paths")
    )
    assert ours == theirs
    assert shape(json.loads((signed / FILE).read_text())) == shape(RECORDED["signature"])


def test_a_bundle_with_the_signature_is_whole(signed: Path, tmp_path: Path) -> None:
    generate_key(tmp_path / "own")
    sign(signed, tmp_path / "own.key", version=2)
    check_bundle(signed)
    assert load(signed, key=tmp_path / "own.pub", selftest=True).version == 2
    output_writable(signed, force=True)
    before = (signed / "manifest.sig").read_bytes()
    sign_oms(signed, tmp_path / "oms.key")
    assert (signed / "manifest.sig").read_bytes() == before


def test_a_killed_run_leaves_nothing_that_stops_the_next(signed: Path, tmp_path: Path) -> None:
    (signed / ".model.sig-0123abcd").touch()
    assert sign_oms(signed, tmp_path / "oms.key").path.exists()
    check_bundle(signed)


def test_another_key_does_not_open_it(signed: Path, tmp_path: Path) -> None:
    signature = json.loads((signed / FILE).read_text())
    public = generate_key(tmp_path / "other", kind="oms").public.read_text()
    signature["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(public.encode()).hexdigest()
    with pytest.raises(InvalidSignature):
        opened(signature, public)


def test_a_damaged_bundle_is_not_signed(bundle: Path, key: Path) -> None:
    (bundle / "labels.txt").write_bytes(b"x")
    with pytest.raises(BundleError) as caught:
        sign_oms(bundle, key)
    assert (caught.value.code, (bundle / FILE).exists()) == ("file-size", False)


def test_a_link_is_refused_since_checks_refuse_it(bundle: Path, key: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (bundle / "manifest.sig").symlink_to(tmp_path / "elsewhere")
    check_bundle(bundle)
    with pytest.raises(UsageError) as caught:
        sign_oms(bundle, key)
    assert (caught.value.code, (bundle / FILE).exists()) == ("oms-link", False)


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_keys_of_another_kind_are_refused_by_name(kind: str, bundle: Path, tmp_path: Path) -> None:
    if kind == "ed25519":
        generate_key(tmp_path / "k")
    else:
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "RSA", "-out", tmp_path / "k.key"], check=True, capture_output=True
        )
    with pytest.raises(UsageError) as caught:
        sign_oms(bundle, tmp_path / "k.key")
    assert caught.value.code == "key-invalid"
    assert "xxdeploy keygen NAME --format oms" in caught.value.hint


def test_the_runtime_names_the_tool_for_such_a_key(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(signed, key=tmp_path / "oms.pub")
    assert caught.value.code == "key-invalid"
    assert "model_signing verify key" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        sign(signed, tmp_path / "oms.key", version=1)
    assert "--format oms" in caught.value.hint


def test_a_passphrase_locks_the_key(bundle: Path, tmp_path: Path) -> None:
    generate_key(tmp_path / "k", kind="oms", passphrase=b"horse")
    with pytest.raises(UsageError) as caught:
        sign_oms(bundle, tmp_path / "k.key")
    assert caught.value.code == "key-passphrase"
    assert (
        sign_oms(bundle, tmp_path / "k.key", passphrase=b"horse").files == len(tiny_bundle.parts_and_manifest()[0]) + 1
    )
