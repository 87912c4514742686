"""Running a published comparison as a study: errors under its flags' names, what a stop says."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from resprout.study.run import Outcome
    from resprout.study.spec import StudySpec


def run_comparison(
    spec: "StudySpec",
    folder: Path,
    device: "torch.device",
    notice: Callable[[str], None],
    by_flag: Callable[[str], str],
    command: list[str],
) -> "Outcome | None":
    """Run it, and tell what failed.

    Args:
        spec: the study.
        folder: of the run.
        device: where models are trained and measured.
        notice: called with one line as each step begins.
        by_flag: a study's error, under the name of the flag that it is about.
        command: what continues it.

    Returns:
        What came of it; None where it was stopped by Ctrl-C, which is told.

    Raises:
        ValueError: the study cannot be run.
    """
    from resprout.study.run import run_study

    try:
        outcome = run_study(spec, folder, device, notice)
    except ValueError as error:
        raise ValueError(by_flag(str(error))) from error
    except KeyboardInterrupt:
        print(
            f"\nstopped; finished points are kept. To continue: {shlex.join(command)}",
            file=sys.stderr,
        )
        return None
    for where, reason in outcome.failures.items():
        print(f"failed: {where}: {reason}", file=sys.stderr)
    return outcome
