"""``xxdeploy bench``: the speed of bundles on this device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.cli.output import AsJson, plain, print_json, print_line, print_table
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.runtime.bench import BenchResult

EXAMPLE = """Examples:

  xxdeploy bench exports/mobilenetv2-int8
  xxdeploy bench exports/mobilenetv2-fp32 exports/mobilenetv2-int8 --threads 1
  xxdeploy bench exports/mobilenetv2-int8 --engine onnxruntime,openvino"""


def command(
    bundles: list[Path],
    /,
    *,
    engine: str | None = None,
    threads: int | None = None,
    untuned: bool = False,
    rounds: int = 50,
    as_json: AsJson = False,
) -> None:
    """Measure latency, throughput, cold start and memory of bundles; rounds are interleaved.

    Without --engine and --threads each bundle runs with the settings of `xxdeploy tune` on this device, or with the
    defaults.

    Parameters
    ----------
    bundles
        One or more bundles; the others are compared with the first.
    engine
        onnxruntime, openvino, litert or onnxruntime-cuda; or several, such as onnxruntime,openvino.
    threads
        Threads of the engine. Default: one per core.
    untuned
        Ignore the settings of `xxdeploy tune`.
    rounds
        Timed runs of each bundle.
    """
    with extra("edge"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.results import Progress
        from xxdeploy.runtime.bench import bench_many
    with ProgressView(as_json=as_json) as view:
        results = bench_many(
            bundles,
            rounds=rounds,
            threads=threads,
            engines=[name.strip() for name in engine.split(",")] if engine else [None],
            tuning="off" if untuned else "stored",
            on_round=lambda done, total: view(Progress("bench, rounds", done, total)),
        )
    paths = [path for path in bundles for _ in range(len(results) // len(bundles))]
    if as_json:
        print_json([{"path": path, **plain(row)} for path, row in zip(paths, results, strict=True)])
        return
    _show(paths, results)


def _show(paths: Sequence[Path], results: Sequence[BenchResult]) -> None:
    """Name each row, then print the figures, so that the table fits 80 columns whatever the names."""
    for number, (path, row) in enumerate(zip(paths, results, strict=True), 1):
        print_line(f"{number}  {path.name or path}: {row.variant}, {row.settings}", hang=3)
    print_line()
    headings = ("", "p50", "p90", "p99", "engine", "images/s", "start", "memory", "speed", "spread")
    shown = len(headings) if len(results) > 1 else headings.index("speed")  # one row has nothing to compare with
    rows = [(str(number), *_figures(row)) for number, row in enumerate(results, 1)]
    print_table(headings[:shown], [row[:shown] for row in rows])
    print_line()
    compared = "; speed: p50 of row 1 divided by this p50; spread: quartiles of that ratio over the rounds"
    print_line(
        "p50, p90, p99: milliseconds from an image to its prediction; engine: the part of p50 in the engine; start: "
        "milliseconds from the start of Python to the first prediction; memory: peak, MB"
        f"{compared if len(results) > 1 else ''}."
    )


def _figures(figures: BenchResult) -> tuple[str, ...]:
    return (
        *(_short(value) for value in (figures.p50_ms, figures.p90_ms, figures.p99_ms, figures.model_p50_ms)),
        f"{figures.images_per_second:.0f}",
        f"{figures.cold_start_ms:.0f}",
        "-" if figures.peak_memory_bytes is None else f"{figures.peak_memory_bytes / 1e6:.0f}",
        f"{figures.speed:.2f}x",
        f"{figures.speed_low:.2f}..{figures.speed_high:.2f}",
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
