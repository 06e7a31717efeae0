"""``xxdeploy example``: list the examples, or copy one into a folder of yours."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, print_json, print_line, print_table
from xxdeploy.shipped import copy_example, examples

EXAMPLE = "Examples:\n\n  xxdeploy example\n  xxdeploy example http_service my-service/"


def command(name: str | None = None, folder: Path = Path(), /, *, as_json: AsJson = False) -> None:
    """List the example programs that ship with xxdeploy, or copy one to change it.

    Parameters
    ----------
    name
        Example to copy. Without it, all are listed.
    folder
        Folder for the copy. No file is replaced.
    """
    if name is not None:
        copies = copy_example(name, folder)
        if as_json:
            print_json({"name": name, "files": copies})
        else:
            print_line(f"wrote {', '.join(map(str, copies))}; the first lines say how it is used")
        return
    known = examples()
    if as_json:
        print_json([{"name": example.name, "about": example.about} for example in known])
        return
    print_table(("example", ""), [(example.name, example.about) for example in known], left=2)
