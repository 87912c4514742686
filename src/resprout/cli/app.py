"""The application that the commands join, and how a user's mistake ends."""

import shlex
import sys
from typing import Annotated, Any

import typer

from resprout.cli.mistakes import in_one_line

app = typer.Typer(
    name="resprout",
    help="Cut a language model back, let it resprout, measure what survived.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def option(name: str, told: str, *others: str, show_default: bool = True) -> Any:
    """An option in both spellings: as published (`--max_lr`) and as usual (`--max-lr`)."""
    spellings = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}", *others])
    return typer.Option(*spellings, help=told, show_default=show_default)


def unset(name: str, told: str, *others: str) -> Any:
    """The same for an option that is None where it is not given: its default stands elsewhere."""
    return option(name, told, *others, show_default=False)


def tell(line: str) -> None:
    """What the user might not expect, on standard error."""
    print(f"resprout: {line}", file=sys.stderr, flush=True)


def same_again() -> str:
    """The command as it was given, to be typed again."""
    return shlex.join(["resprout", *sys.argv[1:]])


Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:0, ...")]


@app.callback()
def _without_command(context: typer.Context) -> None:
    """Cut a language model back, let it resprout, measure what survived."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2, never a traceback.

    Args:
        arguments: the command and its options; default those of the process.
    """
    try:
        code = app(arguments, standalone_mode=False)
    except (ValueError, OSError) as error:
        print(f"resprout: error: {in_one_line(error)}", file=sys.stderr)
        code = 2
    except Exception as error:
        format_message = getattr(error, "format_message", None)  # click's own usage errors
        if format_message is None:
            raise
        print(f"resprout: error: {format_message()}", file=sys.stderr)
        code = getattr(error, "exit_code", 2)
    sys.exit(code or 0)
