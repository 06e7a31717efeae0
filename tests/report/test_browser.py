"""The page in a real browser, at the width of a desk and of a phone."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from reportpages import MEASURED, NOISE, manifest

from xxdeploy.report import render_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--dump-dom",
    "--virtual-time-budget=2000",
)  # fmt: skip
FRAME = """<!doctype html><iframe width="{width}" height="3000" srcdoc="{page}"></iframe><script>
document.querySelector("iframe").onload = event => {{
  const inner = event.target.contentDocument.documentElement;
  document.title = inner.scrollWidth + " of " + inner.clientWidth + ", " + inner.querySelectorAll("section").length;
}};</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_nothing_complains(width: int, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "frame.html"
    page.write_text(FRAME.format(width=width, page=html.escape(render_report(manifest(), NOISE, MEASURED))))
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    match = re.search(r"<title>(\d+) of (\d+), (\d+)</title>", done.stdout)
    assert match is not None, done.stderr[-2000:]
    assert int(match[1]) <= int(match[2]), "the page is wider than the screen"
    assert int(match[3]) == 11
    assert "CONSOLE" not in done.stderr
