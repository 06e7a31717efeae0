"""``xxdeploy tune``: find and store the fastest settings for a bundle on this device."""

from __future__ import annotations

from xxdeploy.cli.output import AsJson, BundlePath, PublicKey, milliseconds, print_json, print_line, print_table
from xxdeploy.optional import extra

EXAMPLE = "Example:\n\n  xxdeploy tune exports/mobilenetv2-int8 --budget 30"


def command(bundle: BundlePath, /, *, budget: float = 30.0, key: PublicKey = None, as_json: AsJson = False) -> None:
    """Find the fastest engine, precision and number of threads for a bundle on this device, and store them for `load`.

    Parameters
    ----------
    budget
        Approximate duration in seconds.
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
            (t.candidate.variant.name, str(t.candidate.settings), milliseconds(t.milliseconds), str(t.rounds))
            for t in sorted(measured, key=lambda trial: trial.milliseconds or 0.0)
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
