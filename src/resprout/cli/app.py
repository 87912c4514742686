"""The application that the commands join, and how a user's mistake ends."""

import shlex
import sys
from typing import Annotated, Any

import typer

from resprout.cli.interrupts import START_OVER, ends_at_once
from resprout.cli.memory import OUT_OF_MEMORY, out_of_memory
from resprout.cli.mistakes import in_one_line, misused

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
    return shlex.join(["resprout", *(word for word in sys.argv[1:] if word not in START_OVER)])


def check_here(device: str) -> None:
    """Refuse a device that this machine has not: torch alone tells, transformers takes seconds.

    Raises:
        ValueError: naming those that it has.
    """
    from resprout.models.device import resolve_device

    resolve_device(device)


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
        with ends_at_once(lambda: f"stopped. To continue: {same_again()}"):
            code = app(arguments, standalone_mode=False)
    except (ValueError, OSError) as error:
        print(f"resprout: error: {in_one_line(error)}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, typer.Abort):  # where a command has nothing better to say
        print(f"\nstopped. To continue: {same_again()}", file=sys.stderr)
        code = 130
    except Exception as error:
        said = misused(error, sys.argv[1:] if arguments is None else arguments)
        if said is None and out_of_memory(error):
            print(f"resprout: error: {OUT_OF_MEMORY}", file=sys.stderr)
            sys.exit(1)
        if said is None:
            raise
        print(f"resprout: error: {in_one_line(said)}", file=sys.stderr)
        code = getattr(error, "exit_code", 2)
    sys.exit(code or 0)
