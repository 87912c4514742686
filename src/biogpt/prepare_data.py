"""`python -m biogpt.prepare_data`: `resprout prepare` with the published defaults."""

import sys

from resprout.cli.app import main as run_command

PUBLISHED = {
    "--source": "pile",
    "--target_tokens": "2000000000",
    "--val_fraction": "0.005",
    "--max_retries": "10",
    "--out_dir": "data",
}
SAME = {"--out": "--out_dir", "-o": "--out_dir"}


def main() -> None:
    """What the user gives stands; the rest is as published."""
    import resprout.cli  # noqa: F401, brings the commands

    arguments = sys.argv[1:]
    names = [word.partition("=")[0] for word in arguments]
    given = {SAME.get(name, name.replace("-", "_").replace("__", "--", 1)) for name in names}
    missing = [word for pair in PUBLISHED.items() if pair[0] not in given for word in pair]
    run_command(["prepare", *missing, *arguments])


if __name__ == "__main__":
    main()
