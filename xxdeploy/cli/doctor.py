"""``xxdeploy doctor``: what works on this machine, and what brings the rest."""

from __future__ import annotations

from collections.abc import Sequence

from xxdeploy.cli.output import AsJson, print_facts, print_json, print_line, print_table
from xxdeploy.doctor.checkup import Checkup, Library, check_up
from xxdeploy.errors import MissingDependencyError

NAME = "doctor"
EXAMPLE = "Example:\n\n  xxdeploy doctor"


def command(*, as_json: AsJson = False) -> None:
    """Look at Python, the processor and the libraries, and say what is missing. Takes a few seconds.

    It fails only where not even a bundle can be run.
    """
    checkup = check_up()
    if as_json:
        print_json(checkup)
    else:
        _show(checkup)
    _judge(checkup.libraries)


def _judge(libraries: Sequence[Library]) -> None:
    """Raise if a bundle cannot be run here."""
    broken = [library.name for library in libraries if library.extra == "edge" and library.state != "ok"]
    if broken:
        raise MissingDependencyError(
            f"bundles cannot be run here: {', '.join(broken)} not usable",
            hint="pip install 'xxdeploy[edge]'",
            code="cannot-run",
        )


def _show(checkup: Checkup) -> None:
    print_facts(
        {
            "xxdeploy": checkup.xxdeploy,
            "Python": checkup.python,
            "platform": checkup.platform,
            "processor": f"{checkup.cores} cores, {' '.join(checkup.cpu_features) or 'no INT8 instructions known'}",
            "providers": "\n".join(checkup.providers) or "-",
            "engines": "\n".join(checkup.engines),
            "Keras' cache": str(checkup.keras_home),
            "weights there": "\n".join(checkup.weights) or "none",
        }
    )
    print_line()
    print_table(
        ("library", "version", "state"),
        [
            (library.name, library.version, "missing" if library.state == "missing" else library.state)
            for library in checkup.libraries
        ],
        left=3,
    )
    print_line()
    for extra in dict.fromkeys(library.extra for library in checkup.libraries if library.state == "missing"):
        names = ", ".join(each.name for each in checkup.libraries if each.extra == extra and each.state == "missing")
        print_line(f"for {names}: pip install 'xxdeploy[{extra}]'")
    for warning in checkup.warnings:
        print_line(f"warning: {warning.message}")
        print_line(f" hint: {warning.hint}")
