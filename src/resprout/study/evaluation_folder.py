"""The folder of an evaluation: what was measured stays, what is missing is measured.

```
OUT/evaluation.json              which models, and what was asked for
OUT/models/NAME/MEASURE.json     one measure of one model, written whole; made again where
                                 anything that decides it has changed
OUT/models/NAME/tasks/           finished tasks, one by one, and their items
OUT/results.json, figures.csv    made from these
```
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resprout.files import only_one, read_json, set_aside, unwritable, write_json

EVALUATION = "evaluation.json"
FORMAT = 1


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
            yield

    def declare(self, described: dict[str, Any]) -> None:
        """Write what the folder is of."""
        write_json(self.path / EVALUATION, {"format": FORMAT, **described})

    def of_model(self, name: str) -> Path:
        """Where a model's measures are."""
        return self.path / "models" / name

    def read(self, name: str, measure: str, identity: dict[str, Any]) -> dict[str, Any] | None:
        """A measure that was finished and is still the one asked for; None = measure it.

        A file that does not parse is set aside by name and never used.
        """
        path = self.of_model(name) / f"{measure}.json"
        if not path.is_file():
            return None
        try:
            found = read_json(path)
        except ValueError:
            set_aside(path)
            return None
        if not isinstance(found, dict) or not {"measured", "failed"} & found.keys():
            set_aside(path)
            return None
        same = found.get("identity") == json.loads(json.dumps(identity))
        return found if same and isinstance(found.get("measured"), dict) else None

    def write(self, name: str, measure: str, document: dict[str, Any]) -> None:
        """Write a measure, whole."""
        write_json(self.of_model(name) / f"{measure}.json", document)
