"""The command line: parse, call, print. Everything heavy is imported when it is needed."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="resprout",
    help="Cut a language model back, let it resprout, measure what survived.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:0, ...")]


@app.callback()
def _without_command(context: typer.Context) -> None:
    """Cut a language model back, let it resprout, measure what survived."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="a study file, e.g. experiments/nano/biogpt.yaml")],
    out: Annotated[
        Path | None, typer.Option(help="the run's folder; default runs/STUDY, by the study's name")
    ] = None,
    device: Device = "auto",
) -> None:
    """Run a study: what is done already is kept, what is missing is done."""
    from resprout.study.spec import read_spec

    spec = read_spec(study)

    from resprout.models.device import resolve_device

    place = resolve_device(device)

    from rich.console import Console

    from resprout.report.page import write_report
    from resprout.report.tables import terminal_table
    from resprout.study.run import run_study

    folder = out or Path("runs") / spec.study
    try:
        outcome = run_study(spec, folder, place, notice=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        again = shlex.join(["resprout", *sys.argv[1:]])
        print(f"\nstopped; finished points are kept. To continue: {again}", file=sys.stderr)
        raise typer.Exit(130) from None
    for where, reason in outcome.failures.items():
        print(f"failed: {where}: {reason}", file=sys.stderr)
    measured = [r for r in outcome.records if "nats_per_token" in r["measures"]["loss"]]
    if measured:
        console = Console()
        if not console.is_terminal:
            console = Console(width=160)  # a file or pipe has no width to keep to
        console.print(terminal_table(measured, console.width))
        print(f"report: {write_report(folder)}")
    if outcome.failures:
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="a run's folder, e.g. runs/nano-biogpt")],
) -> None:
    """Make a run's report again, from its records."""
    from resprout.report.page import write_report

    print(f"report: {write_report(run)}")


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="a size's name, a model folder or a Hub id")],
    revision: Annotated[str | None, typer.Option(help="of a Hub model")] = None,
) -> None:
    """Show what a model is made of, without loading its weights."""
    from resprout.models.biogpt import BioGPTForCausalLM
    from resprout.models.description import (
        breakdown_lines,
        cost_lines,
        layout_lines,
        skeleton,
        zone_lines,
    )
    from resprout.models.subject import load_configuration
    from resprout.pruning.adapters import adapter_for
    from resprout.pruning.protocols import PROTOCOLS

    config = load_configuration(name, revision)
    model = skeleton(config)
    lines = [f"{name}: {type(model).__name__}", ""]
    if isinstance(model, BioGPTForCausalLM):
        lines += [*layout_lines(config), "", *zone_lines(model), ""]
    lines += breakdown_lines(model)
    for rules in PROTOCOLS.values():
        try:
            count = sum(p.numel() for p in adapter_for(model).prunable(rules).values())
            lines.append(f"  prunable under {rules.name}: {count:,}")
        except ValueError as error:
            lines.append(f"  prunable under {rules.name}: not known, {error}")
    lines += ["", *cost_lines(model)]
    print("\n".join(lines))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="x.pt, a model folder, a Hub id or a size")],
    out: Annotated[Path, typer.Argument(help="a new folder (safetensors), or a new file y.pt")],
    tokenizer: Annotated[
        str | None, typer.Option(help="folder or Hub id of a tokenizer to put beside the model")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="of a Hub model")] = None,
) -> None:
    """Turn a published BioGPT checkpoint into a Hugging Face folder, or the other way round."""
    from resprout.models.convert import convert as convert_model

    for line in convert_model(source, out, tokenizer, revision):
        print(line)


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2, never a traceback."""
    try:
        code = app(standalone_mode=False)
    except ValueError as error:
        print(f"resprout: error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print(f"resprout: error: {named}{error.strerror or error}", file=sys.stderr)
        code = 2
    except Exception as error:
        format_message = getattr(error, "format_message", None)  # click's own usage errors
        if format_message is None:
            raise
        print(f"resprout: error: {format_message()}", file=sys.stderr)
        code = getattr(error, "exit_code", 2)
    sys.exit(code or 0)
