"""Reading a run's records back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resprout.record import PointFailure, Record, StudyFile, read_checked


@dataclass(frozen=True)
class Run:
    """A run's folder as the report sees it.

    Attributes:
        folder: where it lies.
        study: `study.json`: name, question, protocol, the spec, the points that belong to it.
        records: the finished points, in the study's order, each with its loss measured.
        missing: how many points are not finished.
        failures: point -> reason, of points and measures that failed.
    """

    folder: Path
    study: dict[str, Any]
    records: list[dict[str, Any]]
    missing: int
    failures: dict[str, str]


def read_run(folder: Path) -> Run:
    """Read a run.

    Raises:
        ValueError: the folder is no run, or none of its points is finished.
    """
    if not (folder / "study.json").is_file():
        raise ValueError(
            f"run: {str(folder)!r} is not a run's folder (it has no study.json); "
            "allowed is a folder that `resprout run` wrote"
        )
    study = read_checked(folder / "study.json", StudyFile)
    records, failures, missing = [], {}, 0
    for identity in study["points"]:
        path = folder / "points" / f"{identity}.json"
        failed = path.with_suffix(".failed.json")
        if failed.is_file():
            failure = read_checked(failed, PointFailure)
            failures[failure["point"]] = failure["failed"]
        if not path.is_file():
            missing += 1
            continue
        try:
            record = read_checked(path, Record)
            if record["id"] != identity:
                raise ValueError(f"{path}: holds the point {record['id']}")
        except ValueError as error:  # said in the report; the next run does the point again
            failures[f"{path.name}, not used"] = str(error)
            missing += 1
            continue
        for measure, reason in _failed(record["measures"]):
            where = f"{record['subject']} {record['method']} {record['amount']:.0%}, {measure}"
            failures[where] = reason
        if "nats_per_token" in record["measures"].get("loss", {}):
            records.append(record)
        else:
            missing += 1
    if not records:
        raise ValueError(f"run: {str(folder)!r} has no finished point yet")
    return Run(folder, study, records, missing, failures)


def _failed(measures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Measure -> reason, of those that failed; of tasks and temperatures each by itself."""
    for name, values in measures.items():
        failed = (values or {}).get("failed")
        if name == "text_at":
            failed = {t: text["failed"] for t, text in (values or {}).items() if "failed" in text}
        if isinstance(failed, dict):
            yield from ((f"{name} {part}", reason) for part, reason in failed.items())
        elif failed is not None:
            yield name, failed
