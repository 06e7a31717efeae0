"""The files of the page: the ones that ship with xxdeploy, and those of an engine, which the user got from npm.

The page lies next to the manifest (``index.html``) and in ``web/``. It loads nothing from another host: its policy says
so to the browser.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xxdeploy.errors import MissingDependencyError
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.engines.select import LITERT
from xxdeploy.shipped import shipped

INDEX = "index.html"
WEB = "web"
"""The folder of the page's other files."""
_PAGE = ("page.js", "page.css", "xxdeploy-web.js")
ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True)
class WebEngine:
    """An engine for browsers.

    Attributes
    ----------
    package : str
        The npm package to install.
    modules : Mapping[str, tuple[str, str]]
        For each module that the page imports by its name, a path in ``web/engine/`` and one in ``node_modules/``.
    files : Mapping[str, str]
        The same two paths of other files.
    """

    package: str
    modules: Mapping[str, tuple[str, str]]
    files: Mapping[str, str]

    @property
    def paths(self) -> dict[str, str]:
        """Return all files: the path in ``web/engine/`` and the one in ``node_modules/``."""
        return {**dict(self.modules.values()), **self.files}

    def part(self, path: str) -> str:
        """Return the path of a file of ``web/engine/`` in the site."""
        return f"{WEB}/engine/{path}"


def _kinds(*names: str) -> dict[str, str]:
    folder = "@litertjs/core/wasm"
    return {f"litert/wasm/{name}{end}": f"{folder}/{name}{end}" for name in names for end in (".js", ".wasm")}


ENGINES: Mapping[str, WebEngine] = {
    LITERT: WebEngine(
        "@litertjs/core",
        {
            "@litertjs/core": ("litert/core.js", "@litertjs/core/dist/index.js"),
            "@litertjs/wasm-utils": ("litert/wasm-utils.js", "@litertjs/wasm-utils/dist/index.js"),
        },
        # With relaxed SIMD, the same with threads, and one for browsers that have neither.
        _kinds("litert_wasm_internal", "litert_wasm_threaded_internal", "litert_wasm_compat_internal"),
    ),
    ONNXRUNTIME: WebEngine(
        "onnxruntime-web",
        {"onnxruntime-web/wasm": ("onnxruntime/ort.js", "onnxruntime-web/dist/ort.wasm.min.mjs")},
        {
            f"onnxruntime/ort-wasm-simd-threaded.{end}": f"onnxruntime-web/dist/ort-wasm-simd-threaded.{end}"
            for end in ("mjs", "wasm")
        },
    ),
}


def engine_for(manifest: Manifest) -> str:
    """Return the engine that a page runs a bundle with: LiteRT if it has a file for it."""
    return LITERT if any(LITERT in variant.requires for variant in manifest.variants) else ONNXRUNTIME


def engine_files(engine: str, folder: Path | None) -> dict[str, Path]:
    """Return the files of an engine by their paths in the site.

    ``folder`` is a ``node_modules``; None is the one in the current folder. ``MissingDependencyError``
    ``engine-files``: a file is not there.
    """
    known = ENGINES[engine]
    root = Path("node_modules") if folder is None else folder
    files = {known.part(path): root / source for path, source in known.paths.items()}
    missing = next((path for path in files.values() if not path.is_file()), None)
    if missing is not None:
        raise MissingDependencyError(
            f"the page runs {known.package}, whose files are not in {root}: there is no {missing.relative_to(root)}",
            hint=f"npm install {known.package}, and run this in the same folder or with --engine-files node_modules",
            code="engine-files",
        )
    return files


def site_files(engine: str, folder: Path | None) -> dict[str, bytes]:
    """Return the content of all files of the site but those of the bundle. Errors as ``engine_files``."""
    return {**page_files(engine), **{path: file.read_bytes() for path, file in engine_files(engine, folder).items()}}


def page_files(engine: str) -> dict[str, bytes]:
    """Return the files of the page, which imports the modules of ``engine``.

    ``UsageError`` ``no-shipped-folder``.
    """
    folder = shipped("web", f"page/{INDEX}") / "page"
    modules = {name: f"./{ENGINES[engine].part(path)}" for name, (path, _) in ENGINES[engine].modules.items()}
    importmap = json.dumps({"imports": modules})
    index = (folder / INDEX).read_text(encoding="utf-8")
    index = index.replace("{{importmap}}", importmap).replace("{{policy}}", html.escape(policy(engine)))
    return {INDEX: index.encode(), **{f"{WEB}/{name}": (folder / name).read_bytes() for name in _PAGE}}


def policy(engine: str) -> str:
    """Return the Content-Security-Policy: scripts of this origin and the import map of the page, and no other host."""
    modules = {name: f"./{ENGINES[engine].part(path)}" for name, (path, _) in ENGINES[engine].modules.items()}
    digest = base64.b64encode(hashlib.sha256(json.dumps({"imports": modules}).encode()).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'",
            "connect-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "media-src 'self' blob:",
            "worker-src 'self' blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
