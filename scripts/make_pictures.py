"""Run the README's first command, and make from this one run the pictures of the documents and the README's table.

    python scripts/make_pictures.py

Writes ``docs/images/terminal.svg``, the block of the README below ``<!-- output of ... -->``, and with Chromium
``docs/images/report.png``, the head of the report. Needs Linux or macOS.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
REPORT = ROOT / "docs" / "images" / "report.png"
COMMAND = "xxdeploy export mobilenetv2 --weights sample --int8 --force"
COLUMNS = 100
BLOCK = re.compile(r"(?<=<!-- output of scripts/make_pictures.py -->\n```\n).*?(?=\n```)", re.DOTALL)


def output_of(words: list[str], folder: Path) -> str:
    """Return what a command prints on a terminal of ``COLUMNS`` columns, with its colors; stderr is left out."""
    primary, secondary = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=secondary, stderr=subprocess.DEVNULL)
    os.close(secondary)
    pieces = []
    while True:
        try:
            piece = os.read(primary, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(primary)
    if process.wait():
        raise SystemExit(f"{' '.join(words)} failed with exit status {process.returncode}")
    return b"".join(pieces).decode().replace("\r\n", "\n").rstrip("\n")


def table_of(output: str) -> str:
    """Return the first lines of an output, up to the first empty one, without colors and trailing blanks."""
    lines = Text.from_ansi(output).plain.split("\n\n", 1)[0].splitlines()
    return "\n".join(line.rstrip() for line in lines)


def picture_of(output: str) -> str:
    """Return the terminal as SVG, whose letters come from the reader's own fonts."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    console.print(Text("$ ", "bold green") + Text(COMMAND, "bold"))
    console.print(Text.from_ansi(output), soft_wrap=False)
    console.print()
    svg = console.export_svg(title="xxdeploy", theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg)
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace")


def photograph(page: Path) -> None:
    """Write ``REPORT``, the first screen of a bundle's report; leave it as it is where there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print(f"Chromium is absent: {REPORT.name} stays as it is")
        return
    # A browser in a container, or of root, has no sandbox; the page is our own.
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,780")
    subprocess.run([browser, *options, f"--screenshot={REPORT}", str(page)], check=True, capture_output=True)


def main() -> None:
    """Run the command in an empty folder, and write the pictures and the README."""
    with tempfile.TemporaryDirectory() as folder:
        output = output_of([sys.executable, "-m", *COMMAND.split()], Path(folder))
        photograph(next(Path(folder).glob("exports/*/report.html")))
    PICTURE.write_text(picture_of(output) + "\n", encoding="utf-8")
    readme = ROOT / "README.md"
    text, count = BLOCK.subn(lambda _: table_of(output), readme.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit("README.md has no block for the output")
    readme.write_text(text, encoding="utf-8")
    print(Text.from_ansi(output).plain)


if __name__ == "__main__":
    main()
