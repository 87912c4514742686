"""The command line: parse, call, print. Everything heavy is imported when it is needed."""

from resprout.cli import models, study
from resprout.cli.app import app, main

__all__ = ["app", "main", "models", "study"]
