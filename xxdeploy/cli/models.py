"""``xxdeploy models``: list the catalog."""

from __future__ import annotations

from xxdeploy.cli.output import AsJson, plain, print_json, print_line, print_table
from xxdeploy.figures import percent
from xxdeploy.models.catalog import CATALOG, ModelSpec
from xxdeploy.models.options import SIZES, WIDTHS

EXAMPLE = "Example:\n\n  xxdeploy models --json"


def command(*, as_json: AsJson = False) -> None:
    """List the networks that can be exported by name."""
    if as_json:
        print_json(
            [{**plain(spec), "widths": WIDTHS.get(spec.name), "sizes": SIZES.get(spec.name)} for spec in CATALOG]
        )
        return
    print_table(
        ("model", "pixels", "weights", "params", "MB", "top-1", "top-5"),
        [_row(spec) for spec in CATALOG],
        left=3,
    )
    print_line()
    print_line(
        "top-1, top-5: published accuracy on ImageNet, percent. MB: float32 weights. Each network can also have random "
        "weights (--weights none) or your own (--weights FILE)."
    )
    samples = " and ".join(spec.title for spec in CATALOG if "sample" in spec.weights)
    print_line(f"{samples} have weights for Fashion-MNIST, which ship with xxdeploy (--weights sample).")
    for spec in CATALOG:
        if spec.name in WIDTHS:
            widths, sizes = (", ".join(map(str, table[spec.name])) for table in (WIDTHS, SIZES))
            print_line(
                f"{spec.title} has ImageNet weights for --alpha {widths} and --input-size {sizes}; other values need "
                "your own weights.",
                hang=2,
            )


def _row(spec: ModelSpec) -> tuple[str, ...]:
    return (
        spec.title,
        f"{spec.input_size}" if spec.channels == 3 else f"{spec.input_size} gray",
        next((name for name in spec.weights if name != "none"), ""),
        f"{spec.parameters / 1e6:.1f} M",
        f"{spec.size_mb:.0f}" if spec.size_mb >= 10 else f"{spec.size_mb:.1f}",
        percent(spec.top1),
        percent(spec.top5),
    )
