"""`resprout run`, `resprout report` and `resprout curves`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from resprout.cli.app import Device, app, check_here, same_again
from resprout.cli.engine_options import Address, Cpus, EngineName, Gpus, MemoryGb, Workers


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="a study file, e.g. experiments/nano/biogpt.yaml")],
    out: Annotated[
        Path | None, typer.Option(help="the run's folder; default runs/STUDY, by the study's name")
    ] = None,
    device: Device = "auto",
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    memory_gb: MemoryGb = None,
    only_look: Annotated[
        bool, typer.Option("--dry-run", help="list the points, what is there and a rough estimate")
    ] = False,
) -> None:
    """Run a study: what is done already is kept, what is missing is done."""
    from resprout.study.spec import read_spec

    spec = read_spec(study)

    from resprout.study.engines.options import EngineOptions

    options = EngineOptions(engine, workers, address, cpus, gpus, memory_gb)
    options.check_cluster()

    from resprout.study.early import check_early

    folder = Path("runs") / spec.study if out is None else out
    check_early(spec, folder, device, options.name == "ray")
    if options.name != "ray":
        check_here(device)

    # Only now, for it takes seconds.
    from resprout.study.engines.starting import study_device

    place = study_device(device, spec, options)

    if only_look:
        from resprout.cli.dry_run import dry_run_lines
        from resprout.study.dry_run import dry_run

        print("\n".join(dry_run_lines(dry_run(spec, folder, place, workers or 1))))
        return

    from rich.console import Console

    from resprout.report.pages import write_pages
    from resprout.report.tables import terminal_table
    from resprout.study.run import run_study

    try:
        outcome = run_study(
            spec, folder, place, notice=lambda line: print(line, flush=True), engine=options
        )
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
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="folders, e.g. runs/nano-biogpt")
    ],
) -> None:
    """Make a run's report again, from its records; further runs are laid over the first."""
    from resprout.report.pages import write_pages

    print("\n".join(write_pages(*runs)))


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(help="folders that `resprout train` wrote")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the picture, written as .png and .svg")
    ] = Path("curves.png"),
) -> None:
    """Draw the losses of training runs, finished or not, into one chart."""
    from resprout.files import unwritable

    # Unlike `resolve`, `realpath` raises nothing for a link to itself.
    places = [os.path.realpath(folder) for folder in runs]
    for folder, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise ValueError(f"runs: {str(folder)!r} is given twice, allowed is each once")
    if out.name in ("", ".."):
        raise ValueError(f"out: got {str(out)!r}, allowed is the name of a picture")
    if (blocked := unwritable(out.parent)) is not None:
        raise ValueError(f"out: {str(out)!r} cannot be written, because of {str(blocked)!r}")

    from resprout.report.charts import save
    from resprout.report.training import read_training, training_curves

    figure, _ = training_curves([read_training(run) for run in runs])
    save(figure, out)
    print(f"chart: {out.with_suffix('.png')}, {out.with_suffix('.svg')}")
