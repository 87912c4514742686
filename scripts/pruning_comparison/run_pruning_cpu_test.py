"""The comparison at its smallest, offline, on a CPU: see README.md beside this."""

import sys

try:
    from resprout.cli.agency_comparison import cpu_test
except ModuleNotFoundError as error:
    print(f"{error.name} is not installed; in the repository: pip install -e .", file=sys.stderr)
    raise SystemExit(2) from None

if __name__ == "__main__":
    sys.exit(cpu_test(script=__file__))
