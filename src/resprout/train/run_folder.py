"""The folder of one pre-training run: whose it is, that nobody else writes to it, what it holds.

`run.json` holds the recipe, all that determines the weights; `checkpoints/` the last ones, with the
recipe that they are of; `training.json` the losses along the way; `final/` the trained model as a
Hugging Face folder. `run.json` comes first and goes last: what has none beside it is not ours.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resprout.files import (
    DIGESTS,
    TEMPORARY,
    first_damage,
    only_one,
    set_aside,
    unwritable,
    write_json,
)
from resprout.seals import read_sealed, sealed
from resprout.train.processes import is_first_process

RECIPE = "run.json"
HISTORY = "training.json"
CHECKPOINTS = "checkpoints"
FINAL = "final"
PUBLISHED = "biogpt_final.pt"
_LOCK = ".lock"
# In the order in which they are removed: what says whose the others are goes after them.
_PRODUCTS = (PUBLISHED, HISTORY, FINAL, CHECKPOINTS, RECIPE)


class RunFolder:
    """One run's folder."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self.final = path / FINAL
        self.published = path / PUBLISHED

    def check_free(self) -> None:
        """See that the folder can be written, and is free or holds a run. Writes nothing.

        Raises:
            ValueError: it holds what is no run's, or cannot be written.
        """
        named = f"out_dir: {str(self.path)!r}"
        if unwritable(self.path):
            raise ValueError(f"{named} cannot be written; allowed is a folder that can")
        if not self.path.exists():
            return
        # Looked at before `run.json` is: another process may begin a run there meanwhile.
        foreign = [path.name for path in self.path.iterdir() if not self._is_beside(path)]
        if foreign and not (self.path / RECIPE).is_file():
            raise ValueError(
                f"{named} holds what is no run's, such as {sorted(foreign)[0]!r}; allowed is "
                "a new or empty folder, or one with a run to continue"
            )

    def check(self, recipe: dict[str, Any], start_over: bool) -> None:
        """See that the folder is free, or holds this very run. Writes nothing.

        Raises:
            ValueError: as `check_free`; it holds another run (the message names the first
                difference).
        """
        self.check_free()
        if (self.path / RECIPE).is_file() and not start_over:
            told = _difference(recipe, self._recipe())
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
                write_json(self.path / RECIPE, sealed(recipe))
            yield

    def _recipe(self) -> dict[str, Any]:
        found = _read_own(self.path / RECIPE)
        if found is None:
            raise ValueError(
                f"out_dir: {str(self.path / RECIPE)!r} is damaged, so that nobody knows which run "
                "this is; allowed is another --out_dir, or --start_over"
            )
        return found

    def hold_checkpoints(self, recipe: dict[str, Any], notice: Callable[[str], None]) -> None:
        """See that the checkpoints are of this recipe, and note it beside them; by one process.

        Those of another are set aside by name. Older folders have no note: theirs are taken as
        they are.

        Args:
            recipe: of the run.
            notice: told of what is set aside.
        """
        note = self.checkpoints / RECIPE
        found = _read_own(note)
        if found is not None:
            told = first_difference(recipe, found)
            if told is None:
                return
            aside = set_aside(self.checkpoints).name
            notice(f"{self.checkpoints} is of another run ({told}); set aside as {aside}")
        write_json(note, sealed(recipe))

    def history(
        self, recipe: dict[str, Any], notice: Callable[[str], None]
    ) -> dict[str, Any] | None:
        """What the finished run of a recipe wrote; None for one that is not finished.

        What is not as it was written is set aside by name; the last checkpoint makes it again.
        What another recipe gave is set aside too.

        Args:
            recipe: of the run.
            notice: told of that.
        """
        path = self.path / HISTORY
        found = _read_own(path)
        if found is None or "finished" not in found:
            if path.is_file() and self.final.is_dir():
                self._set_aside(path, path, notice)
            return None
        told = first_difference(recipe, found.get("recipe", recipe))
        if told:
            self._set_others_aside(told, notice)
            return None
        if not found["finished"] or not self.final.is_dir():
            return None
        damaged = first_damage(self.final) if (self.final / DIGESTS).is_file() else None
        if damaged is not None:
            self._set_aside(self.final / damaged, self.final, notice)
            return None
        return found

    def _set_aside(self, damaged: Path, whole: Path, notice: Callable[[str], None]) -> None:
        if is_first_process():
            notice(f"{damaged} is damaged; set aside as {set_aside(whole).name}")

    def _set_others_aside(self, told: str, notice: Callable[[str], None]) -> None:
        """What came with a `training.json` of another recipe; that itself last, for a kill."""
        if not is_first_process():
            return
        names = [PUBLISHED, FINAL, HISTORY]
        if not (self.checkpoints / RECIPE).is_file():  # which would tell whose they are
            names.insert(0, CHECKPOINTS)
        there = [self.path / name for name in names if (self.path / name).exists()]
        aside = ", ".join(set_aside(path).name for path in there)
        notice(f"{self.path / HISTORY} is of another run ({told}); set aside as {aside}")

    def _is_beside(self, path: Path) -> bool:
        """Whether a name may be there without a run: the lock, and what is never used again."""
        own = (*_PRODUCTS, _LOCK)
        return path.name == _LOCK or path.name.startswith(
            (TEMPORARY, *(f"{name}.corrupt-" for name in own))
        )


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


def _read_own(path: Path) -> dict[str, Any] | None:
    """What a JSON file of ours says; None where there is none, or it is not as it was written."""
    try:
        found = read_sealed(path)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _remove(path: Path) -> None:
    """Remove what may be there, a folder under a name by which a kill leaves no half of it."""
    if path.is_dir() and not path.is_symlink():
        if not path.name.startswith(TEMPORARY):
            path = path.rename(path.with_name(f"{TEMPORARY}{path.name}"))
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
