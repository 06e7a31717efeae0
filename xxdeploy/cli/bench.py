"""``xxdeploy bench``: how fast bundles are on this device. Needs what a device has, and this command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.cli.output import AsJson, plain, print_json, print_line, print_table
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.runtime.bench import BenchResult

NAME = "bench"
EXAMPLE = """Examples:

  xxdeploy bench exports/mobilenetv2-int8
  xxdeploy bench exports/mobilenetv2-fp32 exports/mobilenetv2-int8 --threads 1"""


def command(
    bundles: list[Path],
    /,
    *,
    threads: int | None = None,
    rounds: int = 50,
    as_json: AsJson = False,
) -> None:
    """Measure latency, throughput, cold start and memory of bundles, in turns.

    Parameters
    ----------
    bundles
        One bundle or more; the first is what the others are compared with.
    threads
        Threads of the engine. By default one for each core.
    rounds
        Timed runs of each bundle.
    """
    with extra("edge"):
        from xxdeploy.artifacts import Progress
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.runtime.bench import bench_many
    with ProgressView(as_json=as_json) as view:
        results = bench_many(
            bundles,
            rounds=rounds,
            threads=threads,
            on_round=lambda done, total: view(Progress("bench, rounds", done, total)),
        )
    speeds = [results[0].p50_ms / result.p50_ms for result in results]
    if as_json:
        print_json(
            [
                {"path": path, **plain(result), "speed": speed}
                for path, result, speed in zip(bundles, results, speeds, strict=True)
            ]
        )
        return
    print_table(
        ("bundle", "p50", "p90", "p99", "engine", "images/s", "start", "memory", "speed"),
        [_row(path, result, speed) for path, result, speed in zip(bundles, results, speeds, strict=True)],
    )
    print_line()
    print_line(
        "Milliseconds: an image to its answer (p50, p90, p99), of that the engine, and from the start of Python to the "
        "first answer. Memory: peak, MB. Speed: p50 of the first over this."
    )


def _row(path: Path, result: BenchResult, speed: float) -> tuple[str, ...]:
    return (
        path.name or str(path),
        *(_short(value) for value in (result.p50_ms, result.p90_ms, result.p99_ms, result.model_p50_ms)),
        f"{result.images_per_second:.0f}",
        f"{result.cold_start_ms:.0f}",
        "-" if result.peak_memory_bytes is None else f"{result.peak_memory_bytes / 1e6:.0f}",
        f"{speed:.2f}x",
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
