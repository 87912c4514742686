"""The folder of one pre-training run: whose it is, that nobody else writes to it, what it holds.

`run.json` holds the recipe, all that determines the weights; `checkpoints/` the last ones;
`training.json` the losses along the way; `final/` the trained model as a Hugging Face folder.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resprout.files import TEMPORARY, only_one, read_json, unwritable, write_json
from resprout.train.processes import is_first_process

RECIPE = "run.json"
HISTORY = "training.json"
CHECKPOINTS = "checkpoints"
FINAL = "final"
PUBLISHED = "biogpt_final.pt"
_LOCK = ".lock"
_PRODUCTS = (RECIPE, HISTORY, CHECKPOINTS, FINAL, PUBLISHED)


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self.final = path / FINAL
        self.published = path / PUBLISHED

    def check(self, recipe: dict[str, Any], start_over: bool) -> None:
        """See that the folder is free, or holds this very run. Writes nothing.

        Raises:
            ValueError: it holds another run (the message names the first difference), or what is
                no run's, or cannot be written.
        """
        named = f"out_dir: {str(self.path)!r}"
        if unwritable(self.path):
            raise ValueError(f"{named} cannot be written; allowed is a folder that can")
        if not self.path.exists():
            return
        if not (self.path / RECIPE).is_file():
            foreign = [p.name for p in self.path.iterdir() if not self._is_own(p)]
            if foreign:
                raise ValueError(
                    f"{named} holds what is no run's, such as {sorted(foreign)[0]!r}; allowed is "
                    "a new or empty folder, or one with a run to continue"
                )
        elif not start_over:
            told = _difference(recipe, read_json(self.path / RECIPE))
            if told:
                raise ValueError(
                    f"{told} in the run that {str(self.path)!r} holds; allowed is the same, "
                    "another --out_dir, or --start_over"
                )

    @contextmanager
    def opened(self, recipe: dict[str, Any], start_over: bool) -> Iterator[None]:
        """Hold the folder against other runs, with this recipe in it; lifted however it ends.

        Raises:
            ValueError: as `check`, or another run is writing to it.
        """
        self.check(recipe, start_over)
        if not is_first_process():
            yield
            return
        with only_one(self.path, "out_dir", _LOCK):
            self.check(recipe, start_over)  # another run may have begun meanwhile
            for leftover in self.path.glob(f"{TEMPORARY}*"):
                _remove(leftover)
            if start_over:
                for name in _PRODUCTS:
                    _remove(self.path / name)
            if not (self.path / RECIPE).is_file():
                write_json(self.path / RECIPE, recipe)
            yield

    def history(self) -> dict[str, Any] | None:
        """What a finished run wrote; None for one that is not finished."""
        path = self.path / HISTORY
        found = read_json(path) if path.is_file() else None
        return found if found and found["finished"] and self.final.is_dir() else None

    def _is_own(self, path: Path) -> bool:
        return path.name in (*_PRODUCTS, _LOCK) or path.name.startswith(TEMPORARY)


def _difference(new: dict[str, Any], old: dict[str, Any]) -> str | None:
    for key, what in (("tokenizer", "its tokenizer is"), ("data", "its tokens are")):
        if new[key] != old.get(key):
            return f"data_dir: {what} not the same as"
    return first_difference(new, old)


def first_difference(new: Any, old: Any, name: str = "") -> str | None:
    """`max_lr: got 0.001, but it is 0.0006` for the first value that differs; None for none."""
    if isinstance(new, dict) and isinstance(old, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            told = first_difference(new.get(key), old.get(key), f"{name}.{key}".lstrip("."))
            if told:
                return told
        return None
    return None if new == old else f"{name}: got {new!r}, but it is {old!r}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
