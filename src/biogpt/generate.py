"""`python -m biogpt.generate --checkpoint PATH ...`: `resprout generate PATH ...`."""

import argparse
import sys

from resprout.cli import main as resprout


def main() -> None:
    """Give the published guide's `--checkpoint` to `resprout generate` as its model."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--checkpoint", nargs="?")
    given, options = parser.parse_known_args()
    if given.checkpoint is not None:
        options.insert(0, given.checkpoint)
    elif "--help" in options:
        print("python -m biogpt.generate --checkpoint PATH [OPTIONS], which is:\n")
    else:
        print("resprout: error: checkpoint: missing, give --checkpoint PATH", file=sys.stderr)
        sys.exit(2)
    resprout(["generate", *options])


if __name__ == "__main__":
    main()
