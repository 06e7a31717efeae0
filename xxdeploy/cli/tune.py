"""``xxdeploy tune``: the fastest way to run a bundle on this device. Needs what a device has, and this command line."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, milliseconds, print_json, print_line, print_table
from xxdeploy.optional import extra

NAME = "tune"
EXAMPLE = "Example:\n\n  xxdeploy tune exports/mobilenetv2-int8 --budget 30"


def command(bundle: Path, /, *, budget: float = 30.0, key: Path | None = None, as_json: AsJson = False) -> None:
    """Find the fastest engine, precision and number of threads for a bundle here, and keep it for whoever loads it.

    Parameters
    ----------
    bundle
        Folder that `xxdeploy export` wrote.
    budget
        Seconds, about.
    key
        Public key (a .pem file) whose signature the bundle must carry.
    """
    with extra("edge"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.results import Progress
        from xxdeploy.runtime.tune import tune
    with ProgressView(as_json=as_json) as view:
        found = tune(
            bundle,
            budget=budget,
            key=key,
            on_progress=lambda share, _: view(Progress("tune, percent", round(100 * share), 100)),
        )
    if as_json:
        print_json({"sentences": found.sentences, "choice": found.choice, "tuning": found})
        return
    measured = [each for each in found.trials if each.milliseconds is not None]
    print_table(
        ("variant", "on", "p50", "rounds"),
        [
            (
                each.candidate.variant.name,
                str(each.candidate.settings),
                milliseconds(each.milliseconds),
                str(each.rounds),
            )
            for each in sorted(measured, key=lambda each: each.milliseconds or 0.0)
        ],
        left=2,
    )
    print_line()
    for each in found.trials:
        if each.problem is not None:
            print_line(f"left out: {each.candidate}: {each.problem}", hang=2)
    for sentence in found.sentences:
        print_line(sentence, hang=2)
    print_line(
        f"kept in {found.stored}"
        if found.stored
        else "note: it could not be kept: the folder of the cache cannot be written"
    )
