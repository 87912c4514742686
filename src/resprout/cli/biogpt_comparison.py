"""`python -m biogpt.compare`: parse, call, print. Heavy imports wait until flags are read."""

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from resprout.cli.app import check_here
from resprout.cli.comparison_parser import Parser, parse, spellings
from resprout.cli.comparison_run import run_comparison
from resprout.cli.mistakes import in_one_line

PROGRAM = "biogpt.compare"
RECORDS = "comparison"
RESULT = "full_comparison.json"
PROTOCOLS = {"both": ("paper", "fair"), "paper": ("paper",), "fair": ("fair",)}
_TOLD = (
    "Compare a trained BioGPT with Pythia-160M, uncut and at the published levels of magnitude "
    "pruning, on prepared data. A run that was stopped goes on."
)
# Flag -> default, help; the published ones first.
_FLAGS: dict[str, tuple[str | None, str]] = {
    "data_dir": ("data", "what `python -m biogpt.prepare_data` wrote"),
    "biogpt_ckpt": ("checkpoints/biogpt_final.pt", "the trained BioGPT: x.pt, or a model folder"),
    "pythia_step": (None, "which checkpoint of Pythia (1000, 2.1 billion tokens)"),
    "device": ("auto", "auto (a GPU if there is one), cpu, cuda"),
    "output_dir": ("results", f"for {RESULT} and, under {RECORDS}/, records, report and charts"),
    "finetune_steps": ("500", "of recovery after each cut"),
    "pythia": (None, "another control: a model folder, or a Hub id with Pythia's steps"),
    "protocol": ("both", "paper (as published), fair (the same rules for both models), or both"),
    "seed": ("0", "of recovery and texts"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison.

    Args:
        arguments: the flags; default those of the process.

    Returns:
        The exit code: 0, 1 where a point or measure failed, 2 for a user's mistake (one line).
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return _compare(parse_flags(given), given)
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: error: {in_one_line(error)}", file=sys.stderr)
        return 2


def parse_flags(given: list[str]) -> Namespace:
    """The flags' values, of those that were not given the defaults.

    Raises:
        ValueError: an unknown flag, or a value that is never allowed.
    """
    made = Parser(prog=f"python -m {PROGRAM}", description=_TOLD, allow_abbrev=False)
    for flag, (default, told) in _FLAGS.items():
        shown = f"{told} ({default})" if default is not None else told
        made.add_argument(*spellings(flag), default=default, help=shown, metavar="X")
    found = parse(made, given)
    if found.protocol not in PROTOCOLS:
        from resprout.hints import did_you_mean

        hint = did_you_mean(found.protocol, PROTOCOLS)
        raise ValueError(
            f"protocol: got {found.protocol!r}, allowed are {', '.join(PROTOCOLS)}{hint}"
        )
    found.finetune_steps = _count("finetune_steps", found.finetune_steps, 10**9)
    found.seed = _count("seed", found.seed, 2**31 - 1)
    if found.pythia_step is not None:
        found.pythia_step = _count("pythia_step", found.pythia_step, 143_000)
    return found


def _count(flag: str, given: str, most: int) -> int:
    if not given.isascii() or not given.isdigit() or len(given) > 12 or int(given) > most:
        raise ValueError(f"{flag}: got {given!r}, allowed is a whole number from 0 to {most}")
    return int(given)


def _compare(found: Namespace, given: list[str]) -> int:
    from resprout.study.published_request import Request, check_request

    protocols = PROTOCOLS[found.protocol]
    out = Path(found.output_dir)
    request = Request(
        data_dir=Path(found.data_dir),
        biogpt_ckpt=Path(found.biogpt_ckpt),
        pythia=found.pythia,
        pythia_step=found.pythia_step,
        device=found.device,
        output_dir=out,
        finetune_steps=found.finetune_steps,
        protocols=protocols,
        seed=found.seed,
    )
    check_request(request)  # before the libraries below, which take seconds
    check_here(request.device)

    from resprout.models.quiet import quiet_transformers
    from resprout.study.published_comparison import plan_comparison

    with quiet_transformers():
        planned = plan_comparison(request, _notice)
        again = ["python", "-m", PROGRAM, *given]
        outcome = run_comparison(
            planned.spec, out / RECORDS, planned.device, _notice, _by_flag, again
        )
    if outcome is None:
        return 130
    measured = [r for r in outcome.records if "nats_per_token" in r["measures"]["loss"]]
    if measured:
        _write(out, measured, planned.control, protocols, outcome.failures)
    return 1 if outcome.failures else 0


def _notice(line: str) -> None:
    print(line, flush=True)


def _by_flag(said: str) -> str:
    """A study's error under the name of the flag that it is about."""
    field, _, rest = said.partition(": ")
    flags = {"out": "output_dir", "data.source": "data_dir", "data.window": "data_dir"}
    return f"{flags[field]}: {rest}" if field in flags else said


def _write(
    out: Path,
    records: list[dict[str, Any]],
    control: str,
    protocols: tuple[str, ...],
    failures: dict[str, str],
) -> None:
    """The published file, and what is made of records: table, report, charts."""
    from rich.console import Console

    from resprout.files import write_json
    from resprout.report.full_comparison import full_comparison
    from resprout.report.pages import write_pages
    from resprout.report.tables import terminal_table
    from resprout.study.published_comparison import BIOGPT

    names = {"biogpt": BIOGPT, "pythia": control}
    found = full_comparison(records, names, protocols)
    found |= {"records": RECORDS, "failures": failures}
    write_json(out / RESULT, found)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or pipe has no width to keep to
    console.print(terminal_table(records, console.width))
    print("\n".join([f"results: {out / RESULT}", *write_pages(out / RECORDS)]))
