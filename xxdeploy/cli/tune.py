"""``xxdeploy tune``: find and store the fastest settings for a bundle on this device."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, milliseconds, print_json, print_line, print_table
from xxdeploy.optional import extra

EXAMPLE = "Example:\n\n  xxdeploy tune exports/mobilenetv2-int8 --budget 30"


def command(bundle: Path, /, *, budget: float = 30.0, key: Path | None = None, as_json: AsJson = False) -> None:
    """Find the fastest engine, precision and number of threads for a bundle on this device, and store them for `load`.

    Parameters
    ----------
    bundle
        Folder written by `xxdeploy export`.
    budget
        Approximate duration in seconds.
    key
        Public key (.pub). The bundle must carry its signature.
    """
    with extra("edge"):
        from xxdeploy.cli.progress import ProgressView
        from xxdeploy.results import Progress
        from xxdeploy.runtime.tune import tune
    with ProgressView(as_json=as_json) as view:
        tuning = tune(
            bundle,
            budget=budget,
            key=key,
            on_progress=lambda share, _: view(Progress("tune, percent", round(100 * share), 100)),
        )
    if as_json:
        print_json({"sentences": tuning.sentences, "choice": tuning.choice, "tuning": tuning})
        return
    measured = [trial for trial in tuning.trials if trial.milliseconds is not None]
    print_table(
        ("variant", "on", "p50", "rounds"),
        [
            (
                trial.candidate.variant.name,
                str(trial.candidate.settings),
                milliseconds(trial.milliseconds),
                str(trial.rounds),
            )
            for trial in sorted(measured, key=lambda trial: trial.milliseconds or 0.0)
        ],
        left=2,
    )
    print_line()
    for trial in tuning.trials:
        if trial.problem is not None:
            print_line(f"failed: {trial.candidate}: {trial.problem}", hang=2)
    for sentence in tuning.sentences:
        print_line(sentence, hang=2)
    print_line(
        f"stored in {tuning.stored}"
        if tuning.stored
        else "note: the result is not stored, since the cache folder cannot be written"
    )
