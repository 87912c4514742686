"""`resprout runs` and `resprout schema`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from resprout.cli.app import app


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="of runs, or one run")] = Path("runs"),
) -> None:
    """List runs: how far each is and what came out."""
    from resprout.report.runs import run_states

    found = run_states(folder)
    if not found:
        print(f"no runs in {folder}")
        return
    for state in found:
        print(f"{state.folder}: {_progress(state.points, state.done, state.failed, state.missing)}")
        if state.headline:
            print(f"  {state.headline}")
        if state.trouble:
            print(f"  broken: {' '.join(state.trouble.split())}")


def _progress(points: int, done: int, failed: int, missing: int) -> str:
    if points == 0:
        return "no points"
    parts = [f"{done} of {points} points done"]
    parts += [f"{failed} failed"] * (failed > 0) + [f"{missing} missing"] * (missing > 0)
    return ", ".join(parts)


@app.command()
def schema() -> None:
    """Print the JSON schema of study files, with which editors complete and check them."""
    from resprout.study.schema import study_schema

    print(json.dumps(study_schema(), indent=1, ensure_ascii=False))
