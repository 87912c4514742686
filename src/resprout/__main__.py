"""`python -m resprout` is `resprout`."""

from resprout.cli import main

main()
