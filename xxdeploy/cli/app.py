"""The commands, and parse errors in the words of all other errors."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App, Parameter
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

from xxdeploy import __version__
from xxdeploy.cli import bench, build, doctor, export, inspect, keygen, models, predict, report, sign, tune, verify
from xxdeploy.errors import UsageError

_ABOUT = """Takes a Keras image model to small machines, and proves that it is still the same model.

First steps, with what ships in the package:

  xxdeploy export mobilenetv2 --int8 --weights sample
  xxdeploy predict exports/mobilenetv2-int8 PHOTO.jpg"""

_COMMANDS = (models, export, verify, predict, report, bench, tune, build, inspect, keygen, sign, doctor)


def run(arguments: Sequence[str]) -> int:
    """Parse and run one command; return its exit status.

    Raises
    ------
    UsageError
        ``unknown-command``, ``unknown-option``, ``missing-argument``, ``extra-argument``, ``repeated-option`` and
        ``bad-value`` for what cannot be parsed.
    XXDeployError
        What the command raises.
    """
    app = App(
        name="xxdeploy",
        help=_ABOUT,
        version=__version__,
        help_format="plaintext",
        group_parameters="Options",
        default_parameter=Parameter(negative=""),
        help_epilogue="`xxdeploy COMMAND --help` shows the options of a command, with an example.",
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for place, module in enumerate(_COMMANDS):
        app.command(module.command, name=module.NAME, help_epilogue=module.EXAMPLE, sort_key=place)
    try:
        status = app(list(arguments), exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        raise _usage_error(error) from error
    return status if isinstance(status, int) else 0


def _usage_error(error: CycloptsError) -> UsageError:
    """Cyclopts' sentence becomes the message, its suggestion the hint."""
    command = " ".join(("xxdeploy", *(error.command_chain or ())))
    message, _, guess = str(error).partition(" Did you mean ")
    message = message.strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    guess = guess.partition("?")[0].strip('"')
    hint = f"did you mean {guess}?" if guess else f"`{command} --help` shows how it is used"
    match error:
        case UnknownCommandError():
            names = ", ".join(module.NAME for module in _COMMANDS)
            token = (error.unused_tokens or ["?"])[0]
            return UsageError(
                f"there is no command {token!r}",
                hint=f"did you mean `xxdeploy {guess}`?" if guess else f"the commands are {names}",
                code="unknown-command",
            )
        case UnknownOptionError():
            return UsageError(message.replace("option: ", "option "), hint=hint, code="unknown-option")
        case UnusedCliTokensError():
            tokens = " ".join(error.unused_tokens or ())
            return UsageError(f"`{command}` has no use for {tokens!r}", hint=hint, code="extra-argument")
        case RepeatArgumentError():
            return UsageError(f"{error.token.keyword} is given twice", hint="give it once", code="repeated-option")
        case MissingArgumentError() if error.argument is not None:
            name = error.keyword or error.argument.name
            what = f"{name} needs a value" if name.startswith("-") else f"`{command}` needs {name}"
            return UsageError(what, hint=hint, code="missing-argument")
        case CoercionError() | ValidationError():
            return UsageError(message, hint=hint, code="bad-value")
        case _:
            return UsageError(message, hint=hint, code="command-line")
