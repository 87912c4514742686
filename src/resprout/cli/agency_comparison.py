"""The published comparison scripts: parse, call, print. Heavy imports wait until flags are read."""

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resprout.cli.app import check_here
from resprout.cli.comparison_parser import parse, parser
from resprout.cli.comparison_run import run_comparison
from resprout.cli.mistakes import in_one_line
from resprout.cli.update import checkout_of, update

if TYPE_CHECKING:
    from resprout.study.comparison_effort import Effort

PROGRAM = "pruning_agency_comparison"
_TOLD = "Prune a model with agency and without alike, and compare quality and speed."
_CPU_TOLD = "The comparison at its smallest: offline, minutes on two cores."
_CPU_DEFAULTS = {
    "device": "cpu",
    "pruning_levels": "0,20,50",
    "num_tokens": "30",
    "max_prompts": "2",
    "iterations": "1",
    "output_dir": "validation_results/pruning_cpu_test",
}
_DEBUG_DEFAULTS = {
    "pruning_levels": "0,50",
    "num_tokens": "10",
    "max_prompts": "1",
    "output_dir": "validation_results/pruning_cpu_test_debug",
}


def main(
    arguments: list[str] | None = None,
    script: str | None = None,
    defaults: dict[str, str] | None = None,
) -> int:
    """`pruning_agency_comparison.py`.

    Args:
        arguments: its flags; default those of the process.
        script: the file that was started, whose checkout `--update` brings up to date.
        defaults: flag -> its default here, where it is not the published one.

    Returns:
        The exit code: 0, 1 where a point or measure failed, 2 for a user's mistake.
    """
    given = sys.argv[1:] if arguments is None else arguments
    made = parser(PROGRAM, _TOLD, defaults or {})
    return _run(PROGRAM, parse(made, given), given, script, None)


def cpu_test(arguments: list[str] | None = None, script: str | None = None) -> int:
    """`run_pruning_cpu_test.py`: `--debug`, and the flags of the comparison."""
    given = sys.argv[1:] if arguments is None else arguments
    program = "run_pruning_cpu_test"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    debug = "--debug" in given
    made = parser(program, _CPU_TOLD, _CPU_DEFAULTS | (_DEBUG_DEFAULTS if debug else {}))
    made.set_defaults(model_name=None)
    made.add_argument("--debug", action="store_true", help="smaller still")
    model = parse(made, given).model_name or _cached_or_grown()
    grown = model.endswith("-nano")
    if grown and "OMP_NUM_THREADS" not in os.environ:
        # Small products gain little by threads, and lose much when busy; read by torch later.
        os.environ["OMP_NUM_THREADS"] = "1"
    made.set_defaults(
        model_name=model,
        adapt_steps="20" if grown else "2",
        recover_steps="10" if grown else "1",
    )
    return _run(program, parse(made, given), given, script, "debug" if debug else "test")


def _cached_or_grown() -> str:
    from resprout.study.comparison_early import OFFLINE, is_cached

    return "gpt2" if is_cached("gpt2") else OFFLINE


def _run(
    program: str, found: Namespace, given: list[str], script: str | None, effort: str | None
) -> int:
    """A user's mistake is one line on stderr and exit code 2, never a traceback."""
    try:
        if found.update:
            _update(found, given, script)
        return _show(found) if found.visualize_only else _compare(found, given, effort)
    except (ValueError, OSError) as error:
        print(f"{program}: error: {in_one_line(error)}", file=sys.stderr)
        return 2


def _update(found: Namespace, given: list[str], script: str | None) -> None:
    """Go forward and start again with the new program."""
    place = Path(script or __file__)
    checkout = checkout_of(place)
    if checkout is None:
        raise ValueError(f"update: {str(place)!r} lies in no git checkout; allowed is a clone")
    commit = update(checkout)
    if not found.quiet:
        state = f"is now at {commit}" if commit else "has all that its remote has"
        print(f"{checkout} {state}", flush=True)
    if commit and script:
        again = [word for word in given if word != "--update"]
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, script, *again])


def _compare(found: Namespace, given: list[str], effort: str | None) -> int:
    from resprout.study.comparison_flags import read_flags

    flags = read_flags(vars(found))

    from resprout.study.comparison_early import check_early

    check_early(flags)  # before the libraries below, which take seconds
    check_here(flags.device)

    from resprout.models.quiet import quiet_transformers
    from resprout.study.agency_comparison import plan_comparison

    def notice(line: str) -> None:
        if not found.quiet:
            print(line, flush=True)

    with quiet_transformers():
        planned = plan_comparison(flags, notice, _effort(effort))
        again = ["python", sys.argv[0], *given]
        outcome = run_comparison(
            planned.spec, flags.output_dir, planned.device, notice, _by_flag, again
        )
    if outcome is None:
        return 130
    if not outcome.records:
        return 1
    _page(found, outcome.records)
    return 1 if outcome.failures else 0


def _by_flag(said: str) -> str:
    """A study's error under the name of the flag that it is about."""
    if said.startswith("text.prompts."):
        return f"num_tokens: {said}"
    if said.startswith("data.source: "):
        return f"data: {said.removeprefix('data.source: ')}"
    return f"output_dir: {said.removeprefix('out: ')}" if said.startswith("out: ") else said


def _effort(name: str | None) -> "Effort":
    from resprout.study.comparison_effort import DEBUG, FULL, QUICK

    return {None: FULL, "test": QUICK, "debug": DEBUG}[name]


def _show(found: Namespace) -> int:
    """`--visualize_only`."""
    folder = Path(found.output_dir)
    if not any(folder.glob("points/*.json")):
        raise ValueError(
            f"visualize_only: {found.output_dir!r} holds no records; allowed is the output_dir of "
            "an earlier comparison"
        )
    from resprout.report.records import read_run

    _page(found, read_run(folder).records)
    return 0


def _page(found: Namespace, records: list[dict[str, Any]]) -> None:
    """Everything that is made from records."""
    from resprout.report.agency.page import write_agency_report
    from resprout.study.agency_comparison import BASELINE
    from resprout.study.comparison_outputs import save_memory, save_outputs

    folder = Path(found.output_dir)
    lines = []
    if found.save_outputs:
        lines.append(f"texts: {len(save_outputs(records, folder))} files in {folder / 'outputs'}")
    if found.memory_logging:
        lines.append(f"memory: {save_memory(records, folder)}")
    page = write_agency_report(folder, baseline=BASELINE)
    if found.quiet:
        print(page)
        return

    from rich.console import Console

    from resprout.cli.comparison_table import comparison_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or pipe has no width to keep to
    console.print(comparison_table(records))
    print("\n".join([*lines, f"report: {page}"]))
