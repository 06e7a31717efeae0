"""The npm package in ``web/``: it builds, its tests pass, and Node and a browser pass the conformance suite."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle

from xxdeploy.runtime import load
from xxdeploy.site.server import LOCAL, Site, serve

WEB = Path(__file__).resolve().parents[2] / "web"
MOST_BYTES = 40_000
"""The minified package without an engine."""


def _need_chromium() -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("there is no Chromium")


def run(*command: str | Path, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], cwd=WEB, timeout=timeout, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built() -> Path:
    """``web/dist``, from libraries that were installed by the lock file."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("there is no node or npm")
    installed = WEB / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        answer = run("npm", "ci", "--prefer-offline")
        if answer.returncode:
            pytest.skip(f"npm ci fails, as without an index of packages: {answer.stderr.strip()[-200:]}")
    answer = run("node", "build.mjs")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return WEB / "dist"


def test_the_tests_of_the_package_pass(built: Path) -> None:
    answer = run("npm", "test")
    assert answer.returncode == 0, answer.stdout[-3000:]


def judged(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of entries, once none has failed."""
    assert answer.returncode == 0, (
        "\n".join(line for line in answer.stdout.splitlines() if line.startswith("not ok"))[:3000]
        or answer.stderr[-3000:]
    )
    return [line for line in answer.stdout.splitlines() if line.startswith("ok")]


def test_node_passes_the_conformance_suite(built: Path, conformance: Path) -> None:
    """All refusals, and each third of the other entries."""
    lines = judged(run("node", "test/conformance.mjs", conformance, "3"))
    assert len(lines) > 300
    assert {line.partition("# SKIP ")[2] for line in lines} == {"", "png", "litert"}


def test_a_page_passes_the_conformance_suite(built: Path, conformance: Path) -> None:
    """All entries whose pictures only a decoder reads, and a few of the others: one takes some 80 ms."""
    _need_chromium()
    lines = judged(run("node", "test/conformance_page.mjs", conformance, "25"))
    entries = json.loads((conformance / "expected.json").read_text())["answers"]
    assert sum("png" in entry["needs"] for entry in entries) > 0
    assert len(lines) > 25
    assert {line.partition("# SKIP ")[2] for line in lines} <= {"", "links"}


def test_the_lock_file_names_no_host() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert len(packages) > 20
    assert [path for path, package in packages.items() if "resolved" in package] == []


@pytest.fixture
def page(built: Path, conformance: Path, tmp_path: Path) -> Callable[[Path], dict[str, Any]]:
    """Serve a bundle, open the page, give it a picture, and return what the page shows."""
    _need_chromium()

    def open_page(bundle: Path) -> dict[str, Any]:
        server = serve(Site.of(bundle, WEB / "node_modules"), LOCAL, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://localhost:{server.server_address[1]}/"
            answer = run("node", "test/page.mjs", address, conformance / "pictures" / "wide.png")
            assert answer.returncode == 0, answer.stderr[-3000:]
            shown: dict[str, Any] = json.loads(answer.stdout)
            assert shown["hosts"] == [f"localhost:{server.server_address[1]}"]
            return shown
        finally:
            server.shutdown()
            server.server_close()

    return open_page


def test_the_page_gives_the_answer_of_python_and_asks_no_other_host(
    page: Callable[[Path], dict[str, Any]], conformance: Path
) -> None:
    bundle = conformance / "bundles" / "classes"
    shown = page(bundle)
    assert shown["errors"] == []
    assert shown["isolated"]
    assert not shown["wide"]
    assert (shown["state"], shown["error"]) == ("good", "")
    assert hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()[:16] in shown["proof"]
    assert "LiteRT.js" in shown["facts"]
    ((key, choice),) = shown["stored"]  # the engine was chosen by a measurement
    assert key.startswith("xxdeploy:")
    assert json.loads(choice)["engine"] == "litert"
    with load(bundle) as runtime:
        best = runtime.predict(conformance / "pictures" / "wide.png", top=5)
    assert [row[0] for row in shown["classes"]] == [one.label for one in best]
    assert [row[1] for row in shown["classes"]] == [f"{100 * one.probability:.1f} %" for one in best]


def test_a_changed_byte_of_the_model_is_refused_on_the_page(
    page: Callable[[Path], dict[str, Any]], conformance: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "changed"
    shutil.copytree(conformance / "bundles" / "classes", bundle)
    (model,) = bundle.glob("*.tflite")
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    shown = page(bundle)
    assert shown["state"] == "bad"
    assert shown["error"].startswith(f"error[file-hash]: {model.name} is not the file that was exported")
    assert shown["classes"] == []


def test_a_page_whose_golden_pairs_fail_answers_to_no_picture(
    page: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    bundle = tiny_bundle.make(tmp_path / "bundle")
    assert len(page(bundle)["classes"]) == 5
    manifest = json.loads((bundle / "manifest.json").read_text())
    golden = bundle / manifest["variants"][0]["golden"]
    golden.write_bytes(golden.read_bytes()[:-40] + np.full(10, 0.1, np.float32).tobytes())
    (entry,) = (entry for entry in manifest["files"] if entry["path"] == manifest["variants"][0]["golden"])
    entry["sha256"] = hashlib.sha256(golden.read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    shown = page(bundle)
    assert (shown["state"], shown["proof"]) == ("bad", "not verified")
    assert shown["error"].startswith("error[golden-mismatch]: this browser does not compute")
    assert shown["classes"] == []


def test_the_page_that_ships_is_the_one_that_is_built(built: Path) -> None:
    shipped = (WEB / "page" / "xxdeploy-web.js").read_bytes()
    assert shipped == (built / "xxdeploy-web.js").read_bytes(), "cp web/dist/xxdeploy-web.js web/page/"


def test_the_package_is_small() -> None:
    assert len((WEB / "page" / "xxdeploy-web.js").read_bytes()) < MOST_BYTES
