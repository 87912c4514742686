"""`resprout run`, `resprout report` and `resprout curves`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from resprout.cli.app import Device, app, same_again


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

    from resprout.report.pages import write_pages
    from resprout.report.tables import terminal_table
    from resprout.study.run import run_study

    folder = out or Path("runs") / spec.study
    try:
        outcome = run_study(spec, folder, place, notice=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print(f"\nstopped; finished points are kept. To continue: {same_again()}", file=sys.stderr)
        raise typer.Exit(130) from None
    for where, reason in outcome.failures.items():
        print(f"failed: {where}: {reason}", file=sys.stderr)
    measured = [r for r in outcome.records if "nats_per_token" in r["measures"]["loss"]]
    if measured:
        console = Console()
        if not console.is_terminal:
            console = Console(width=160)  # a file or pipe has no width to keep to
        console.print(terminal_table(measured, console.width))
        print("\n".join(write_pages(folder)))
    if outcome.failures:
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="a run's folder, e.g. runs/nano-biogpt")],
) -> None:
    """Make a run's report again, from its records."""
    from resprout.report.pages import write_pages

    print("\n".join(write_pages(run)))


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(help="folders that `resprout train` wrote")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the picture, written as .png and .svg")
    ] = Path("curves.png"),
) -> None:
    """Draw the losses of training runs, finished or not, into one chart."""
    from resprout.report.charts import save
    from resprout.report.training import read_training, training_curves

    figure, _ = training_curves([read_training(run) for run in runs])
    save(figure, out)
    print(f"chart: {out.with_suffix('.png')}, {out.with_suffix('.svg')}")
