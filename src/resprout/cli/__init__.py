"""The command line: parse, call, print. Everything heavy is imported when it is needed."""

from resprout.cli import evaluate, generate, models, prepare, prune, studies, study, train
from resprout.cli.app import app, main

__all__ = [
    "app", "evaluate", "generate", "main", "models", "prepare", "prune", "studies", "study",
    "train",
]  # fmt: skip
