"""Keys and signatures: what is refused, and that nothing is parsed before."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.bundle.folder import check_bundle
from xxdeploy.bundle.pack import pack
from xxdeploy.bundle.sign import generate_key, sign
from xxdeploy.errors import BundleError, UsageError, XXDeployError
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.bundle.signature import trust

FILE = "manifest.sig"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    generate_key(folder / "a")
    generate_key(folder / "b")
    return folder


@pytest.fixture
def signed(tmp_path: Path, keys: Path) -> Path:
    bundle = tiny_bundle.make(tmp_path / "tiny")
    sign(bundle, keys / "a.key", version=3)
    return bundle


def code_of(bundle: Path, key: Path, **options: int) -> str:
    with pytest.raises(XXDeployError) as caught:
        load(bundle, key=key, **options)  # type: ignore[arg-type]
    with pytest.raises(XXDeployError) as other:
        check_bundle(bundle, trust(key, **options))
    assert caught.value.code == other.value.code
    return caught.value.code


def test_a_signed_bundle_loads_with_its_key_and_says_its_version(signed: Path, keys: Path) -> None:
    assert load(signed, key=keys / "a.pub", min_version=3).version == 3
    assert load(signed, key=(keys / "a.pub").read_bytes()).version == 3
    assert load(signed).version is None
    check_bundle(signed, trust(keys / "a.pub"))
    both = (keys / "b.pub").read_bytes() + (keys / "a.pub").read_bytes()
    assert load(signed, key=both).version == 3, "while a key is being replaced, devices trust two"


def test_signing_leaves_every_other_byte_alone_and_a_new_export_unsigned(signed: Path, keys: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    before = {path: path.read_bytes() for path in signed.rglob("*") if path.is_file() and path.name != FILE}
    sign(signed, keys / "a.key", version=4)
    assert {path: path.read_bytes() for path in before} == before
    assert load(signed, key=keys / "a.pub").version == 4
    pack(manifest, parts, signed, force=True)
    assert code_of(signed, keys / "a.pub") == "signature-missing"


def test_a_stripped_signature(signed: Path, keys: Path) -> None:
    (signed / FILE).unlink()
    assert code_of(signed, keys / "a.pub") == "signature-missing"
    assert code_of(signed, keys / "a.pub", min_version=1) == "signature-missing"


def test_the_manifest_of_another_bundle(signed: Path, keys: Path, tmp_path: Path) -> None:
    other = tiny_bundle.make(tmp_path / "other", seed=1)
    shutil.copy(other / "manifest.json", signed / "manifest.json")
    assert code_of(signed, keys / "a.pub") == "signature-wrong"
    sign(other, keys / "a.key", version=9)
    shutil.copy(other / FILE, signed / FILE)  # both of another bundle of the same key: then the files are not its files
    assert code_of(signed, keys / "a.pub") in ("file-hash", "file-size")


def test_an_older_version_put_back(signed: Path, keys: Path) -> None:
    assert code_of(signed, keys / "a.pub", min_version=4) == "signature-old"
    lines = (signed / FILE).read_text().replace("version 3", "version 4")
    (signed / FILE).write_text(lines)  # a liar changes the number
    assert code_of(signed, keys / "a.pub", min_version=4) == "signature-wrong"


def test_another_key(signed: Path, keys: Path) -> None:
    assert code_of(signed, keys / "b.pub") == "signature-key"
    mine = (signed / FILE).read_text()
    sign(signed, keys / "b.key", version=3)
    theirs = (signed / FILE).read_text()
    mixed = mine.splitlines(keepends=True)[:3] + theirs.splitlines(keepends=True)[3:]
    (signed / FILE).write_text("".join(mixed))  # claims to be of key a
    assert code_of(signed, keys / "a.pub") == "signature-wrong"


def test_every_changed_byte_of_the_signature_is_refused(signed: Path, keys: Path) -> None:
    good = (signed / FILE).read_bytes()
    seen = set()
    for at in range(len(good)):
        (signed / FILE).write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(BundleError) as caught:
            load(signed, key=keys / "a.pub")
        seen.add(caught.value.code)
    assert seen == {"signature-damaged", "signature-key", "signature-wrong"}
    for bad in (b"", good[:-1], good + b"\n", good * 9, good.replace(b"\n", b"\r\n")):
        (signed / FILE).write_bytes(bad)
        assert code_of(signed, keys / "a.pub") == "signature-damaged"


def test_nothing_is_parsed_before_the_signature_is_right(
    signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(*_: object) -> Manifest:
        raise AssertionError("a parser saw the manifest")

    (signed / "manifest.json").write_text("[" * 100_000)
    monkeypatch.setattr(Manifest, "from_json", parsed)
    assert code_of(signed, keys / "a.pub") == "signature-wrong"


def test_a_file_changed_after_signing(signed: Path, keys: Path) -> None:
    content = (signed / "model.onnx").read_bytes()
    (signed / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert code_of(signed, keys / "a.pub") == "file-hash"


def test_a_link_as_signature(signed: Path, keys: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.sig"
    (signed / FILE).rename(outside)
    (signed / FILE).symlink_to(outside)
    assert code_of(signed, keys / "a.pub") == "file-outside"
    outside.unlink()
    assert code_of(signed, keys / "a.pub") == "file-missing"


def test_keys_that_are_none(signed: Path, keys: Path, tmp_path: Path) -> None:
    pem = (keys / "a.pub").read_text()
    rsa = """-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu
KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==
-----END PUBLIC KEY-----
"""
    x25519 = pem.replace("MCowBQYDK2VwAyEA", "MCowBQYDK2VuAyEA")
    for number, bad in enumerate((b"", pem[:60].encode(), pem[:-30].encode(), b"\0" * 99, rsa.encode(), x25519.encode(),
                                  (keys / "a.key").read_bytes(), pem.encode() + b"x")):  # fmt: skip
        (tmp_path / f"{number}.pub").write_bytes(bad)
        assert code_of(signed, tmp_path / f"{number}.pub") == "key-invalid", number
    assert code_of(signed, tmp_path / "absent") == "key-invalid"
    assert code_of(signed, tmp_path) == "key-invalid"
    with pytest.raises(UsageError) as caught:
        sign(signed, keys / "a.pub", version=1)
    assert caught.value.code == "key-invalid"


def test_what_makes_no_sense_is_said(signed: Path, keys: Path) -> None:
    for options, code in (
        ({"min_version": 2}, "min-version-without-key"),
        ({"key": keys / "a.pub", "min_version": -1}, "version-invalid"),
        ({"key": keys / "a.pub", "check": False}, "key-without-check"),
    ):
        with pytest.raises(UsageError) as caught:
            load(signed, **options)
        assert caught.value.code == code
    for version in (0, -1, 1 << 63):
        with pytest.raises(UsageError) as caught:
            sign(signed, keys / "a.key", version=version)
        assert caught.value.code == "version-invalid"


def test_what_is_damaged_is_not_signed(tmp_path: Path, keys: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    (bundle / "more.txt").write_text("not listed")
    with pytest.raises(BundleError) as caught:
        sign(bundle, keys / "a.key", version=1)
    assert caught.value.code == "file-extra"
    with pytest.raises(BundleError) as caught:
        sign(tmp_path / "absent", keys / "a.key", version=1)
    assert caught.value.code == "bundle-not-found"
    assert not (bundle / FILE).exists()


def test_a_private_key_is_its_owners_and_is_never_replaced(tmp_path: Path) -> None:
    pair = generate_key(tmp_path / "new" / "k")
    assert stat.S_IMODE(pair.private.stat().st_mode) == 0o600
    secret = pair.private.read_bytes()
    for name in ("k.key", "k.pub"):
        with pytest.raises(UsageError) as caught:
            generate_key(tmp_path / "new" / "k")
        assert caught.value.code == "key-exists"
        (tmp_path / "new" / name).unlink()
    assert secret.startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_passphrase(tmp_path: Path) -> None:
    pair = generate_key(tmp_path / "k", passphrase=b"correct horse")
    assert b"ENCRYPTED" in pair.private.read_bytes()
    bundle = tiny_bundle.make(tmp_path / "b")
    for wrong in (None, b"wrong"):
        with pytest.raises(UsageError) as caught:
            sign(bundle, pair.private, version=1, passphrase=wrong)
        assert caught.value.code == "key-passphrase"
    sign(bundle, pair.private, version=1, passphrase=b"correct horse")
    assert load(bundle, key=pair.public).version == 1
    with pytest.raises(UsageError, match="empty"):
        generate_key(tmp_path / "other", passphrase=b"")


def test_without_the_library_only_a_key_fails(signed: Path, keys: Path) -> None:
    code = f"""
import sys
sys.modules["cryptography"] = None
from xxdeploy.errors import MissingDependencyError
from xxdeploy.runtime import load
load({str(signed)!r})
try:
    load({str(signed)!r}, key={str(keys / "a.pub")!r})
except MissingDependencyError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "pip install 'xxdeploy[sign]'\n"


def test_openssl_reads_the_key(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command")
    pair = generate_key(tmp_path / "k")
    done = subprocess.run(["openssl", "pkey", "-pubin", "-in", str(pair.public), "-noout", "-text"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "ED25519" in done.stdout.upper()
