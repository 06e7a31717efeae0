"""``xxdeploy cache``: show what xxdeploy keeps on the disk between runs, and remove it."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from xxdeploy.cache import MOST_MB, PARTS, Removed, cache_root, clear, entries, keras_downloads, limit_bytes
from xxdeploy.cli.output import AsJson, megabytes, print_json, print_line, print_table
from xxdeploy.errors import UsageError

EXAMPLE = """Examples:

  xxdeploy cache
  xxdeploy cache clear --part openvino
  xxdeploy cache clear --to-mb 500"""


def command(
    action: Literal["list", "clear"] = "list",
    /,
    *,
    part: Annotated[str | None, Parameter(name="--part")] = None,
    to_mb: Annotated[float | None, Parameter(name="--to-mb")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what xxdeploy keeps in the cache folder between runs, or remove it. Everything in it can be made again.

    When the cache exceeds XXDEPLOY_CACHE_MB (2000 by default), the least recently used files are removed.

    Parameters
    ----------
    action
        list (the default) or clear.
    part
        One part: calibration, engines, openvino or tuned. By default all.
    to_mb
        With clear: remove only the least recently used files, until the others take at most this many MB.
    """
    root, limit = cache_root(), limit_bytes()
    if to_mb is not None and (action != "clear" or not 0 <= to_mb <= MOST_MB):
        raise UsageError(
            f"--to-mb is a size that `xxdeploy cache clear` leaves, 0 to {MOST_MB:.0e}",
            hint="xxdeploy cache clear --to-mb 500",
            code="cache-limit",
        )
    removed = Removed(0, 0)
    if action == "clear":
        removed = clear(part, down_to=0 if to_mb is None else int(to_mb * 1e6))
        part = None  # what is left is shown whole
    held = entries(part)
    shown = [known for known in PARTS if part in (None, known.name)]
    rows = [(known, [entry for entry in held if entry.part == known.name]) for known in shown]
    if as_json:
        parts = [
            {"name": known.name, "files": len(found), "bytes": sum(entry.size for entry in found)}
            for known, found in rows
        ]
        print_json({"folder": root, "limit_bytes": limit, "parts": parts, "removed": removed})
        return
    if action == "clear":
        print_line(f"removed {removed.files} files, {megabytes(removed.size)}")
        if removed.kept:
            print_line(f"{removed.kept} files could not be removed: check the permissions of {root}")
    else:
        print_table(
            ("part", "", "files", "MB"),
            [
                (known.name, known.about, str(len(found)), f"{sum(entry.size for entry in found) / 1e6:.1f}")
                for known, found in rows
            ],
            left=2,
        )
    if action == "list" and (downloads := keras_downloads()) is not None:
        print_line(
            f"{downloads[0]}: {megabytes(downloads[1])} of weights that Keras downloaded; they are not removed here"
        )
    print_line(f"{root}: {megabytes(sum(entry.size for entry in held))}, limit {megabytes(limit)}")
