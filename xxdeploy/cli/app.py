"""The commands, and parse errors in the form of all other errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)
from cyclopts.help import DefaultFormatter, HelpPanel, InlineText
from rich.console import Console, ConsoleOptions
from rich.text import Text

from xxdeploy import __version__
from xxdeploy.cli import (
    bench,
    build,
    diagnose,
    doctor,
    export,
    inspect,
    models,
    predict,
    sign,
    tune,
    verify,
)
from xxdeploy.cli.installation import cache, example
from xxdeploy.cli.pages import report, serve
from xxdeploy.cli.verbosity import chosen_verbosity
from xxdeploy.errors import UsageError

_ABOUT = """Export Keras image models to small machines, and verify that they still give the same answers.

First steps, with the samples in the package:

  xxdeploy export mobilenetv2 --int8 --weights sample
  xxdeploy predict exports/mobilenetv2-sample-int8 PHOTO.jpg"""

_EVERYWHERE = Group("Options of every command", sort_key=100)
COMMANDS: Mapping[str, tuple[Callable[..., None], str]] = {
    "models": (models.command, models.EXAMPLE),
    "export": (export.command, export.EXAMPLE),
    "diagnose": (diagnose.command, diagnose.EXAMPLE),
    "verify": (verify.command, verify.EXAMPLE),
    "predict": (predict.command, predict.EXAMPLE),
    "report": (report.command, report.EXAMPLE),
    "serve": (serve.command, serve.EXAMPLE),
    "bench": (bench.command, bench.EXAMPLE),
    "tune": (tune.command, tune.EXAMPLE),
    "build": (build.command, build.EXAMPLE),
    "inspect": (inspect.command, inspect.EXAMPLE),
    "keygen": (sign.keygen, sign.KEYGEN_EXAMPLE),
    "sign": (sign.command, sign.EXAMPLE),
    "example": (example.command, example.EXAMPLE),
    "cache": (cache.command, cache.EXAMPLE),
    "doctor": (doctor.command, doctor.EXAMPLE),
}
"""The function and the example of each command, in the order of the help."""


def run(arguments: Sequence[str]) -> int:
    """Parse and run one command; return its exit status. Errors: those of the command and of ``_usage_error``."""
    app = App(
        name="xxdeploy",
        help=_ABOUT,
        version=__version__,
        help_format="plaintext",
        group_parameters="Options",
        help_formatter=_Help(),
        default_parameter=Parameter(negative="", show_default=_shown_default),
        help_epilogue="`xxdeploy COMMAND --help` shows the options of a command, with an example.",
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for place, (name, (command, epilogue)) in enumerate(COMMANDS.items()):
        app.command(command, name=name, help_epilogue=epilogue, sort_key=place)
    app.meta.group_parameters = _EVERYWHERE

    @app.meta.default
    def with_verbosity(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), help="Print results and errors only.")] = False,
        verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), help="Also print details.")] = False,
        log_file: Annotated[Path | None, Parameter(help="Append progress and details to a file.")] = None,
    ) -> object:
        with chosen_verbosity(quiet=quiet, verbose=verbose, log_file=log_file):
            return app(tokens, exit_on_error=False, print_error=False, verbose=False)

    try:
        status = app.meta(list(arguments), exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        raise _usage_error(error) from error
    return status if isinstance(status, int) else 0


class _Help(DefaultFormatter):
    """Help whose paragraphs fill the terminal, wherever their docstring breaks its lines."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        for entry in panel.entries:
            _fill(entry.description)
        super().__call__(console, options, panel)

    def render_description(self, console: Console, options: ConsoleOptions, description: object) -> None:
        _fill(description)
        super().render_description(console, options, description)


def _fill(text: object) -> None:
    """Join the lines of each paragraph. Blank lines and indented ones (examples) stay."""
    if isinstance(text, InlineText) and isinstance(text.primary_renderable, Text):
        text.primary_renderable = Text(re.sub(r"(?<=\S)\n(?=\S)", " ", text.primary_renderable.plain))


def _shown_default(value: object) -> str | None:
    """Return what the help shows as a default: nothing for an option that is off or empty unless it is given."""
    return None if value is None or value is False or value in ("", ()) else str(value)


def _alike(given: str, option: str) -> bool:
    """Return whether the words alone are alike; Cyclopts also counts the dashes, which every option has."""
    return difflib.SequenceMatcher(None, given.strip("-"), option.strip("-")).ratio() >= 0.6


def _usage_error(error: CycloptsError) -> UsageError:
    """Return an error with Cyclopts' sentence as its message and its suggestion as the hint."""
    command = " ".join(("xxdeploy", *(error.command_chain or ())))
    message, _, guess = str(error).partition(" Did you mean ")
    message = message.strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    guess = guess.partition("?")[0].strip('"')
    if isinstance(error, UnknownOptionError) and not _alike(message.rpartition(" ")[2], guess):
        guess = ""
    hint = f"did you mean {guess}?" if guess else f"`{command} --help` shows how it is used"
    match error:
        case UnknownCommandError():
            token = (error.unused_tokens or ["?"])[0]
            return UsageError(
                f"there is no command {token!r}",
                hint=f"did you mean `xxdeploy {guess}`?" if guess else f"the commands are {', '.join(COMMANDS)}",
                code="unknown-command",
            )
        case UnknownOptionError():
            return UsageError(message.replace("option: ", "option "), hint=hint, code="unknown-option")
        case UnusedCliTokensError():
            tokens = " ".join(error.unused_tokens or ())
            return UsageError(f"`{command}` does not take the argument {tokens!r}", hint=hint, code="extra-argument")
        case RepeatArgumentError():
            return UsageError(f"{error.token.keyword} is given twice", hint="leave one out", code="repeated-option")
        case MissingArgumentError() if error.argument is not None:
            name = error.keyword or error.argument.name
            message = f"{name} needs a value" if name.startswith("-") else f"`{command}` needs {name}"
            return UsageError(message, hint=hint, code="missing-argument")
        case CoercionError() | ValidationError():
            return UsageError(message, hint=hint, code="bad-value")
        case _:
            return UsageError(message, hint=hint, code="command-line")
