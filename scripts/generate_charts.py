"""Redraw the published charts from data; `--results` lays runs of your own over them."""

import sys

try:
    from resprout.cli.published_charts import main
except ModuleNotFoundError as error:
    print(f"{error.name} is not installed; in the repository: pip install -e .", file=sys.stderr)
    raise SystemExit(2) from None

if __name__ == "__main__":
    sys.exit(main())
