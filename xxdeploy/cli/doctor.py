"""``xxdeploy doctor``: check this machine, and say how to install the missing parts."""

from __future__ import annotations

from xxdeploy.cli.output import AsJson, print_facts, print_json, print_line, print_table
from xxdeploy.doctor.checkup import Checkup, check_up
from xxdeploy.errors import MissingDependencyError

EXAMPLE = "Example:\n\n  xxdeploy doctor"


def command(*, as_json: AsJson = False) -> None:
    """Check Python, the processor and the libraries, and say what is missing. Takes a few seconds.

    The exit status is 3 if bundles cannot run here.
    """
    checkup = check_up()
    if as_json:
        print_json(checkup)
    else:
        _show(checkup)
    broken = [library.name for library in checkup.libraries if library.extra == "edge" and library.state != "ok"]
    if broken:
        raise MissingDependencyError(
            f"bundles cannot run here: {', '.join(broken)} cannot be imported",
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
            "threads": checkup.threads,
            "providers": "\n".join(checkup.providers) or "-",
            "engines": "\n".join(checkup.engines),
            "Keras' cache": str(checkup.keras_home),
            "cached weights": "\n".join(checkup.weights) or "none",
        }
    )
    print_line()
    print_table(
        ("library", "version", "state"),
        [(library.name, library.version, library.state) for library in checkup.libraries],
        left=3,
    )
    print_line()
    missing = [library for library in checkup.libraries if library.state == "missing"]
    for extra in dict.fromkeys(library.extra for library in missing):
        names = ", ".join(library.name for library in missing if library.extra == extra)
        print_line(f"for {names}: pip install 'xxdeploy[{extra}]'")
    for warning in checkup.warnings:
        print_line(f"warning: {warning.message}")
        print_line(f" hint: {warning.hint}")
