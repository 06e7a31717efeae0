"""Both ways to hash agree, and a small bundle does not load OpenSSL."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle

from xxdeploy.runtime.bundle import hashing
from xxdeploy.runtime.bundle.hashing import sha256


@pytest.mark.parametrize("data", [b"", b"abc", b"\x00" * 100_000])
@pytest.mark.parametrize("loaded", [True, False])
def test_the_digest_is_that_of_hashlib(data: bytes, loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not loaded:
        monkeypatch.delitem(sys.modules, "_hashlib", raising=False)
    expected = hashlib.sha256(data).hexdigest()
    assert sha256(data).hexdigest() == expected
    for size in (len(data), hashing.SMALL + 1):
        found = sha256(size=size)
        found.update(data[:10])
        found.update(data[10:])
        assert found.hexdigest() == expected


def test_a_python_without_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "_hashlib", raising=False)
    monkeypatch.setattr(hashing, "_OWN", ("xxdeploy_absent", "sys"))
    assert sha256(b"abc").hexdigest() == hashlib.sha256(b"abc").hexdigest()


def test_a_cold_start_loads_neither_openssl_nor_what_only_writers_need(tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    code = (
        "import sys\nfrom xxdeploy.runtime import load\nimport numpy as np\n"
        "load(sys.argv[1]).predict(np.zeros((8, 8, 3), np.uint8))\n"
        "print({'_hashlib', 'tempfile', 'subprocess', 'openvino', 'importlib.metadata', 'cryptography'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("limit", "loaded"), [("sum", "False"), ("max", "True")])
def test_what_counts_is_the_whole_bundle(limit: str, loaded: str, tmp_path: Path) -> None:
    bundle = tiny_bundle.make(tmp_path / "b")
    code = (
        "import sys\nfrom pathlib import Path\nfrom xxdeploy.runtime import load\n"
        "from xxdeploy.runtime.bundle import hashing\n"
        f"hashing.SMALL = {limit}(each.stat().st_size for each in Path(sys.argv[1]).rglob('*') if each.is_file())\n"
        "load(sys.argv[1])\nprint('_hashlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == loaded
