"""``xxdeploy models``: the catalog."""

from __future__ import annotations

from xxdeploy.cli.output import AsJson, print_json, print_line, print_table, share
from xxdeploy.models.catalog import CATALOG, ModelSpec

NAME = "models"
EXAMPLE = "Example:\n\n  xxdeploy models --json"


def command(*, as_json: AsJson = False) -> None:
    """List the networks that can be exported by name."""
    if as_json:
        print_json(CATALOG)
        return
    print_table(
        ("model", "pixels", "weights", "params", "MB", "depth", "top-1", "top-5"),
        [_row(spec) for spec in CATALOG],
        left=3,
    )
    print_line()
    print_line(
        "Accuracy in percent, as published for ImageNet; MB as float32. Each can also have random weights "
        "(--weights none) or your own (--weights FILE)."
    )


def _row(spec: ModelSpec) -> tuple[str, ...]:
    return (
        spec.title,
        f"{spec.input_size}" if spec.channels == 3 else f"{spec.input_size} gray",
        ", ".join(name for name in spec.weights if name != "none"),
        f"{spec.parameters / 1e6:.1f} M",
        f"{spec.size_mb:g}",
        str(spec.depth),
        share(spec.top1),
        share(spec.top5),
    )
