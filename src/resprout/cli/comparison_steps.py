"""The settings of `scripts/run_comparison.sh`, looked at before its first step.

Each step refuses its own flags as it begins, but the later ones begin after hours or days. The
settings come as environment variables of the script's names; preparing is the first step itself.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import typer.main

from resprout.cli import app
from resprout.cli.app import check_here
from resprout.cli.biogpt_comparison import PROTOCOLS, parse_flags
from resprout.cli.mistakes import in_one_line, misused

PROGRAM = "run_comparison.sh"
FOLDERS = ("DATA_DIR", "CHECKPOINTS", "CONTROL_DIR")


def main(settings: Mapping[str, str] = os.environ) -> int:
    """Refuse what a later step would refuse, in one line; nothing is written.

    Returns:
        The exit code: 0, or 2 for a user's mistake.
    """
    control = settings["CONTROL"]
    try:
        _check_folders(settings)
        data, trained = settings["DATA_DIR"], Path(settings["CHECKPOINTS"])
        shared = ["--data_dir", data, "--target_tokens", settings["TARGET_TOKENS"]]
        if not (trained / "biogpt_final.pt").is_file():
            flags = ["--model", settings["MODEL"], *shared, "--out_dir", str(trained)]
            flags += ["--export_pt", *settings["TRAIN_OPTIONS"].split()]
            _of("MODEL, CHECKPOINTS, TRAIN_OPTIONS", flags, _check_training)
        final = Path(settings["CONTROL_DIR"]) / "final"
        if control and not final.is_dir():
            flags = ["--model", control, *shared, "--out_dir", settings["CONTROL_DIR"]]
            flags += settings["CONTROL_OPTIONS"].split()
            _of("CONTROL, CONTROL_DIR, CONTROL_OPTIONS", flags, _check_training)
        flags = ["--output_dir", settings["RESULTS"], *settings["COMPARE_OPTIONS"].split()]
        against = ["--pythia", str(final)] if control else []
        flags = [*against, *flags]
        _of("RESULTS, COMPARE_OPTIONS", flags, lambda words: _check_comparing(words, final))
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: error: {in_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _of(settings: str, words: list[str], check: Callable[[list[str]], None]) -> None:
    """Check a step's flags; what they are refused for is said of the settings they come from."""
    try:
        check(words)
    except (ValueError, OSError) as error:
        raise ValueError(f"{settings}: {in_one_line(error)}") from error
    except Exception as error:
        if (said := misused(error, words)) is None:
            raise
        raise ValueError(f"{settings}: {said}") from error


def _check_folders(settings: Mapping[str, str]) -> None:
    """Refuse one folder for two things, of which the second would be refused at its step."""
    names = FOLDERS if settings["CONTROL"] else FOLDERS[:2]
    places = {name: os.path.realpath(settings[name]) for name in names}
    for index, name in enumerate(names):
        for other in names[:index]:
            if places[name] == places[other]:
                raise ValueError(
                    f"{name}: got {settings[name]!r}, which is {other} too; allowed is a folder of "
                    "its own"
                )


def _check_training(words: list[str]) -> None:
    """As `resprout train` does, but for the data, which may have still to be made."""
    from resprout.data.tokens import MANIFEST
    from resprout.train.early import check_early
    from resprout.train.request import read_request

    command = typer.main.get_command(app)
    context = typer.Context(command)
    train = command.get_command(context, "train")  # type: ignore[attr-defined]
    found = train.make_context("train", list(words)).params
    given = {name: value for name, value in found.items() if value is not None}
    given |= {"report_to": tuple(given.get("report_to", ()))}
    request = read_request(given)
    check_early(request, with_data=(request.data_dir / MANIFEST).is_file())
    _check_device(request.device)


def _check_comparing(words: list[str], final: Path) -> None:
    """As `biogpt.compare` does, but for what has still to be prepared and trained.

    Args:
        words: its flags.
        final: the control's folder, once it is trained.
    """
    from resprout.models.names import check_subject
    from resprout.study.published_request import Request, check_flags, under_flag

    found = parse_flags(words)
    request = Request(
        data_dir=Path(found.data_dir),
        biogpt_ckpt=Path(found.biogpt_ckpt),
        pythia=found.pythia,
        pythia_step=found.pythia_step,
        device=found.device,
        output_dir=Path(found.output_dir),
        protocols=PROTOCOLS[found.protocol],
    )
    own = found.pythia == str(final)
    check_flags(request, own_control=own)
    _check_device(found.device)
    if not own:
        under_flag("pythia", lambda: check_subject(*request.control))


def _check_device(name: str) -> None:
    if name not in ("auto", "cpu"):  # torch alone knows what is there
        check_here(name)


if __name__ == "__main__":
    sys.exit(main())
