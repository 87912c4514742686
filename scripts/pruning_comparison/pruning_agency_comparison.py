"""Prune a model with agency and without alike, and compare them: see README.md beside this."""

import sys

try:
    from resprout.cli.agency_comparison import main
except ModuleNotFoundError as error:
    print(f"{error.name} is not installed; in the repository: pip install -e .", file=sys.stderr)
    raise SystemExit(2) from None

if __name__ == "__main__":
    sys.exit(main(script=__file__))
