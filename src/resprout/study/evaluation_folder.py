"""The folder of an evaluation: what was measured stays, what is missing is measured.

```
OUT/evaluation.json              which models, and what was asked for
OUT/models/NAME/MEASURE.json     one measure of one model, written whole; made again where
                                 anything that decides it has changed
OUT/models/NAME/tasks/           finished tasks, one by one, and their items
OUT/results.json, figures.csv    made from these
```

Measures and tasks say what they were when they were written; what is not so any more is set aside
as `NAME.corrupt-N` and measured again.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, model_validator

from resprout.files import TEMPORARY, only_one, set_aside, unwritable, write_json
from resprout.record import read_checked
from resprout.record_parts import FigureShape, Shape
from resprout.seals import sealed

EVALUATION = "evaluation.json"
FORMAT = 1
TASKS = "tasks"  # the measure, and the folder of its parts

Notice = Callable[[str], None]


class _Figure(FigureShape):
    """A figure with all that `measure.figure` tells of it."""

    items: float
    protocol: str
    seconds: float


class _Measured(Shape):
    """What every measure finds."""

    figures: dict[str, _Figure]


class _Loss(_Measured):
    """With what two models are compared by."""

    data_digest: str
    window_tokens: Annotated[list[int], Field(min_length=1)]
    window_nats: Annotated[list[float], Field(min_length=1)]


class _Tasks(_Measured):
    """With what was finished, and what failed by name."""

    tasks: dict[str, dict[str, Any]]
    failed: dict[str, str]


class _Text(_Measured):
    """With what other models' texts are judged by."""

    temperature: float
    top_k: int
    samples: list[dict[str, Any]]
    verdicts: dict[str, Any]


_Found = TypeVar("_Found", bound=_Measured)


class _Kept(Shape, Generic[_Found]):
    """`MEASURE.json`: one measure of one model, or why it failed."""

    identity: dict[str, Any]
    started: str
    finished: str
    stage: dict[str, Any]
    environment: dict[str, Any]
    measured: _Found | None = None
    failed: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "_Kept[_Found]":
        if (self.measured is None) == (self.failed is None):
            raise ValueError("needs either what was measured or why it failed")
        return self


_SHAPES: dict[str, type[BaseModel]] = {
    "loss": _Kept[_Loss],
    "tasks": _Kept[_Tasks],
    "text": _Kept[_Text],
}
_ANY_MEASURE = _Kept[_Measured]


class EvaluationFolder:
    """Reads and writes it."""

    def __init__(self, path: Path):
        self.path = path

    def check(self) -> None:
        """Refuse what cannot be written, and what holds something else; nothing is touched.

        Raises:
            ValueError: naming the folder.
        """
        shown = repr(str(self.path))
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise ValueError(f"out: {shown} is a file; allowed is a folder")
        if (nearest := unwritable(self.path)) is not None:
            raise ValueError(f"out: {shown} cannot be written, because of {str(nearest)!r}")
        if not self.path.is_dir():
            return
        names = sorted(path.name for path in self.path.iterdir() if path.name[0] != ".")
        if names and EVALUATION not in names:
            raise ValueError(
                f"out: {shown} holds {names[0]!r}, which is no evaluation; allowed is a new or "
                "empty folder, or one that an evaluation was written to"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out; the system lifts the lock however this one ends.

        Raises:
            ValueError: another run holds it.
        """
        with only_one(self.path, "out"):
            self._clear_leftovers()
            yield

    def _clear_leftovers(self) -> None:
        """Remove what a killed run had not finished writing: our own temporary names alone."""
        for place in (".", "models/*", f"models/*/{TASKS}"):
            for leftover in self.path.glob(f"{place}/{TEMPORARY}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)

    def declare(self, described: dict[str, Any]) -> None:
        """Write what the folder is of."""
        write_json(self.path / EVALUATION, {"format": FORMAT, **described})

    def of_model(self, name: str) -> Path:
        """Where a model's measures are."""
        return self.path / "models" / name

    def tasks_of_model(self, name: str) -> Path:
        """Where a model's finished tasks and their items are."""
        return self.of_model(name) / TASKS

    def read(
        self, name: str, measure: str, identity: dict[str, Any], notice: Notice
    ) -> dict[str, Any] | None:
        """A measure that was finished and is still the one asked for; None = measure it.

        A file that is not as it was written is set aside by name and never used.

        Args:
            name: of the model.
            measure: its name.
            identity: all that decides the result.
            notice: told, in one line, what is set aside.
        """
        path = self.of_model(name) / f"{measure}.json"
        if not path.is_file():
            return None
        try:
            found: dict[str, Any] = read_checked(path, _SHAPES.get(measure, _ANY_MEASURE))
        except ValueError as error:
            notice(f"{error}; set aside as {set_aside(path).name}, measured again")
            return None
        same = found["identity"] == json.loads(json.dumps(identity))
        return found if same and found.get("measured") is not None else None

    def write(self, name: str, measure: str, document: dict[str, Any]) -> None:
        """Write a measure, whole."""
        plain = json.loads(json.dumps(document))  # as it will be read: the seal is of that
        write_json(self.of_model(name) / f"{measure}.json", sealed(plain))
