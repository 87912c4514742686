"""A run's folder: one record per point, and what is derived from them.

`RUN/study.json` says which study this is and which points belong to it now;
`RUN/points/ID.json` holds a finished point, `ID.failed.json` one that failed and why.
"""

import csv
import io
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
    write_json,
    write_text,
)
from resprout.record import Record, StudyFile, read_checked
from resprout.seals import sealed
from resprout.study.points import Point
from resprout.study.spec import StudySpec

Notice = Callable[[str], None]

# Within a run's folder: checkpoints, by the name of the subject or point that is being made.
WORK = "work"


class Store:
    """Reads and writes a run's folder.

    Args:
        folder: of the run.
        notice: told of files that are broken and set aside.
    """

    def __init__(self, folder: Path, notice: Notice = lambda line: None):
        self.folder = folder
        self.notice = notice
        self.points = folder / "points"

    def check_writable(self, study: str) -> None:
        """Make the folder and see that it can be written and is not another study's.

        Raises:
            ValueError: it cannot, or it is.
        """
        try:
            self.points.mkdir(parents=True, exist_ok=True)
            probe = self.folder / ".probe"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"out: {str(self.folder)!r} cannot be written ({error.strerror}); "
                "allowed is a folder that can"
            ) from error
        described = self.folder / "study.json"
        if described.is_file() and _broken(described):
            # It is made anew from the study's file; points are told apart by their own names.
            self.notice(f"{described} is broken; set aside as {set_aside(described).name}")
        self.check_own(study)

    def check_own(self, study: str) -> None:
        """See that the folder is not another study's; writes nothing.

        Raises:
            ValueError: it is.
        """
        described = self.folder / "study.json"
        if described.is_file():
            other = read_checked(described, StudyFile)["study"]
            if other != study:
                raise ValueError(
                    f"out: {str(self.folder)!r} holds the study {other!r}, not {study!r}; "
                    "allowed is a folder of its own"
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder; the system lifts the lock however this run ends.

        Raises:
            ValueError: another run holds it.
        """
        with only_one(self.folder, "out"):
            self._clear_leftovers()
            yield

    def _clear_leftovers(self) -> None:
        """Remove what a killed run had not finished writing: our own temporary names alone.

        And the work of what it had finished, where it was killed between the two.
        """
        for place in (".", "points", "data", "subjects", "charts", "items/*", WORK):
            for leftover in self.folder.glob(f"{place}/{TEMPORARY}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)
        for work in self.folder.glob(f"{WORK}/*"):
            if self._is_written(work.name):
                shutil.rmtree(work, ignore_errors=True)

    def _is_written(self, name: str) -> bool:
        """Whether a subject or point of that name is there whole, so that nothing is made of it."""
        subject, path = self.folder / "subjects" / name, self.points / f"{name}.json"
        if (subject / DIGESTS).is_file():
            return first_damage(subject) is None
        try:
            return path.is_file() and not failed_measures(read_checked(path, Record))
        except ValueError:
            return False

    def declare(self, spec: StudySpec, points: list[Point]) -> None:
        """Write which points make up the study now."""
        described = {
            "study": spec.study,
            "question": spec.question,
            "protocol": spec.protocol,
            "points": [point.id for point in points],
            "spec": spec.model_dump(),
        }
        write_json(self.folder / "study.json", sealed(described))

    def read(self, point: Point) -> dict[str, Any] | None:
        """The point's record, if it is there, as it was written and its own; else set aside."""
        path = self.points / f"{point.id}.json"
        if not path.is_file():
            return None
        try:
            record: dict[str, Any] = read_checked(path, Record)
        except ValueError:
            record = {}
        if record.get("id") == point.id:
            return record
        self.notice(f"{path} is broken; set aside as {set_aside(path).name}")
        return None

    def finished(self, point: Point) -> bool:
        """Whether nothing of the point is left to do: a failed measure is tried again."""
        record = self.read(point)
        return record is not None and not failed_measures(record)

    def look_afresh(self) -> None:
        """Have a network file system ask anew what others wrote: it does where we write, too."""
        probe = self.points / f"{TEMPORARY}probe"
        probe.write_text("")
        probe.unlink()

    def write(self, record: dict[str, Any]) -> None:
        """Write a finished point, whole."""
        write_json(self.points / f"{record['id']}.json", sealed(record))
        (self.points / f"{record['id']}.failed.json").unlink(missing_ok=True)

    def write_failure(self, point: Point, reason: str, trace: str) -> None:
        """Write why a point failed; the next run tries it again."""
        failure = {"id": point.id, "point": point.label, "failed": reason, "traceback": trace}
        write_json(self.points / f"{point.id}.failed.json", failure)

    def failed(self, point: Point) -> bool:
        """Whether it is written that the point failed."""
        return (self.points / f"{point.id}.failed.json").is_file()

    def records(self, points: list[Point]) -> list[dict[str, Any]]:
        """The records that are there, in the order of the plan."""
        return [record for point in points if (record := self.read(point)) is not None]

    def derive(self, records: list[dict[str, Any]]) -> None:
        """Write `results.csv` and `metadata.json` from the records."""
        write_text(self.folder / "results.csv", results_csv(records))
        write_json(self.folder / "metadata.json", metadata(records))


def _broken(described: Path) -> bool:
    try:
        read_checked(described, StudyFile)
    except ValueError:
        return True
    return False


def failed_measures(record: dict[str, Any]) -> dict[str, str]:
    """Measure -> reason, of those that failed; of tasks each by itself."""
    found: dict[str, str] = {}
    for name, value in record["measures"].items():
        failed = value.get("failed") if isinstance(value, dict) else None
        if name == "text_at":
            parts = {temperature: own.get("failed") for temperature, own in value.items()}
            failed = {t: reason for t, reason in parts.items() if reason is not None}
        if isinstance(failed, dict):
            found |= {f"{name} {part}": reason for part, reason in failed.items()}
        elif failed is not None:
            found[name] = failed
    return found


def results_csv(records: list[dict[str, Any]]) -> str:
    """A tidy table: one row per point and figure, `value` with its interval where it has one."""
    columns = ["study", "id", "subject", "method", "unit", "amount", "achieved", "seed", "protocol",
               "surviving", "measure", "figure", "value", "low95", "high95"]  # fmt: skip
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        base = {name: record[name] for name in columns if name in record}
        base["surviving"] = record["parameters"]["surviving"]
        for name, count in record["parameters"].items():
            if isinstance(count, int | float):
                writer.writerow(base | {"measure": "parameters", "figure": name, "value": count})
        for measure, values in measured(record):
            for figure, (value, interval) in figures_of(values).items():
                low, high = interval or (None, None)
                row = {"measure": measure, "figure": figure, "value": value}
                writer.writerow(base | row | {"low95": low, "high95": high})
        for name, cost in record["stages"].items():
            for figure in ("seconds", "peak_bytes"):
                row = {"measure": f"stage {name}", "figure": figure, "value": cost[figure]}
                writer.writerow(base | row)
    return out.getvalue()


def measured(record: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each measure and its values; texts at further temperatures each by themselves."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, values in record["measures"].items():
        if name == "text_at":
            found += [(f"text at {temperature}", own) for temperature, own in values.items()]
        else:
            found.append((name, values))
    return found


def figures_of(values: dict[str, Any]) -> dict[str, tuple[float, list[float] | None]]:
    """Name -> (value, interval) of a measure's numbers, those without an interval too."""
    found: dict[str, tuple[float, list[float] | None]] = {}
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            key = "ci95" if name == "nats_per_token" else f"{name}_ci95"
            found[name] = (value, values.get(key))
    for name, figure in values.get("figures", {}).items():
        if figure["value"] is not None:
            found[name] = (figure["value"], figure["ci95"])
    return found


def metadata(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What the points have in common and what each was run on."""
    environments: list[dict[str, Any]] = []
    for record in records:
        if record["environment"] not in environments:
            environments.append(record["environment"])
    return {
        "study": records[0]["study"] if records else None,
        "points": [record["id"] for record in records],
        "subjects": sorted({record["subject"] for record in records}),
        "methods": sorted({record["method"] for record in records}),
        "protocols": sorted({record["protocol"] for record in records}),
        "seeds": sorted({record["seed"] for record in records}),
        "digests": {record["id"]: record["digests"] for record in records},
        "seconds": round(sum(stage_seconds(record) for record in records), 1),
        "environments": environments,
    }


def stage_seconds(record: dict[str, Any]) -> float:
    """What the point itself took; making the subject is shared and not counted again."""
    shared = ("train", "adaptation")
    return sum(cost["seconds"] for name, cost in record["stages"].items() if name not in shared)
