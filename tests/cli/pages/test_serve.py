"""`xxdeploy serve` prints its address, and ends by Ctrl-C."""

from __future__ import annotations

import http.server
import json
from pathlib import Path

import node_modules
import pytest
import tiny_bundle

from xxdeploy.cli import main

Capture = pytest.CaptureFixture[str]


def test_the_address_is_printed_and_ctrl_c_ends_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: http.server.ThreadingHTTPServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(http.server.ThreadingHTTPServer, "serve_forever", interrupted)
    bundle, modules = str(tiny_bundle.make(tmp_path / "b")), str(node_modules.make(tmp_path))
    assert main(["serve", bundle, "--port", "0", "--engine-files", modules]) == 130
    assert capsys.readouterr().out.startswith("open http://localhost:")
    assert main(["serve", bundle, "--port", "0", "--engine-files", modules, "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["address"].startswith("http://localhost:")


def test_a_missing_engine_says_how_to_get_it(tmp_path: Path, capsys: Capture) -> None:
    assert main(["serve", str(tiny_bundle.make(tmp_path / "b")), "--engine-files", str(tmp_path)]) == 3
    assert "npm install onnxruntime-web" in capsys.readouterr().err
