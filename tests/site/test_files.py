"""The page has its scripts, its engine and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import node_modules
import pytest
import tiny_bundle

from xxdeploy.errors import BundleError, MissingDependencyError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.files import open_bundle
from xxdeploy.site.files import ENGINES, engine_files, engine_for, page_files, site_files
from xxdeploy.site.server import Site


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_the_page_imports_the_modules_of_its_engine_and_allows_only_this_import_map(engine: str) -> None:
    files = page_files(engine)
    index = files["index.html"].decode()
    importmap = re.search(r'<script type="importmap">(.*?)</script>', index)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', index)
    assert importmap is not None
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(importmap[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in html.unescape(policy[1])
    assert {path.removeprefix("./") for path in json.loads(importmap[1])["imports"].values()} <= set(
        engine_files_of(engine)
    )
    for name in re.findall(r'(?:src|href)="(web/[^"]+)"', index):
        assert name in files
    assert "{{" not in index
    assert "http:" not in index
    assert "https:" not in index


def engine_files_of(engine: str) -> list[str]:
    return [ENGINES[engine].part(path) for path in ENGINES[engine].paths]


def test_the_files_of_an_engine_come_from_node_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = node_modules.make(tmp_path)
    for engine in ENGINES:
        files = site_files(engine, modules)
        assert set(engine_files_of(engine)) < set(files)
        assert all(
            files[ENGINES[engine].part(path)] == source.encode() for path, source in ENGINES[engine].paths.items()
        )
    monkeypatch.chdir(tmp_path)
    assert engine_files("litert", None)


def test_a_missing_file_names_the_package_to_install(tmp_path: Path) -> None:
    modules = node_modules.make(tmp_path, "litert")
    with pytest.raises(MissingDependencyError, match="onnxruntime-web") as raised:
        engine_files("onnxruntime", modules)
    assert raised.value.code == "engine-files"
    assert "npm install onnxruntime-web" in raised.value.hint
    (modules / "@litertjs/core/wasm/litert_wasm_internal.wasm").unlink()
    with pytest.raises(MissingDependencyError, match=r"no @litertjs/core/wasm/litert_wasm_internal\.wasm"):
        engine_files("litert", modules)


def test_a_bundle_without_a_litert_file_needs_onnx_runtime(tmp_path: Path) -> None:
    _, manifest = open_bundle(tiny_bundle.make(tmp_path / "b"))
    assert engine_for(manifest) == "onnxruntime"


def test_a_bundle_for_the_web_lists_its_page_and_loads_in_python(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    modules = node_modules.make(tmp_path, "litert")
    options = ExportOptions.of("fp32", weights="none", target="web", engine_files=modules)
    with pytest.raises(MissingDependencyError, match="@litertjs/core"):
        export(find("lenet"), ExportOptions.of("fp32", weights="none", target="web"), tmp_path / "none")
    bundle = export(find("lenet"), options, tmp_path / "bundle").bundle
    _, manifest = open_bundle(bundle)
    assert {"index.html", "web/page.js", "web/xxdeploy-web.js", *engine_files_of("litert")} < {
        entry.path for entry in manifest.files
    }
    assert engine_for(manifest) == "litert"
    assert list(bundle.glob("*.onnx")) == []
    core = bundle / "web/engine/litert/core.js"
    assert Site.of(bundle).parts["web/engine/litert/core.js"] == core.read_bytes()
    assert Site.of(bundle).parts["web/page.js"] == page_files("litert")["web/page.js"]
    load(bundle, selftest=True).close()
    right = core.read_bytes()
    core.write_bytes(right.upper())
    with pytest.raises(BundleError, match=r"web/engine/litert/core\.js is not the file that was exported"):
        Site.of(bundle)
    assert Site.of(bundle, modules).parts["web/engine/litert/core.js"] == modules / "@litertjs/core/dist/index.js"
    core.write_bytes(right)
    (bundle / "web/page.js").write_text("alert()")
    with pytest.raises(Exception, match=r"web/page\.js"):
        load(bundle)
