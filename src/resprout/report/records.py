"""Reading a run's records back."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resprout.hints import point_label, unused
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
        name: which of several runs this is, else empty.
    """

    folder: Path
    study: dict[str, Any]
    records: list[dict[str, Any]]
    missing: int
    failures: dict[str, str]
    name: str = ""


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
    records: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    missing = 0
    for identity in study["points"]:
        path = folder / "points" / f"{identity}.json"
        failed = path.with_suffix(".failed.json")
        try:
            if failed.is_file():
                failure = read_checked(failed, PointFailure)
                failures[unused(failure["point"], identity, failures)] = failure["failed"]
        except ValueError as error:  # no reason to hide what was finished
            failures[f"{failed.name}, not used"] = str(error)
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
        for measure, reason in failed_measures(record["measures"]):
            where = f"{_label(record)}, {measure}"
            failures[unused(where, identity, failures)] = reason
        if "nats_per_token" in record["measures"].get("loss", {}):
            records.append(record)
        else:
            missing += 1
    if not records:
        raise ValueError(f"run: {str(folder)!r} has no finished point yet")
    return Run(folder, study, records, missing, failures)


def _label(record: dict[str, Any]) -> str:
    parts = ("subject", "method", "amount", "seed", "protocol")
    return point_label(*(record[part] for part in parts))


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Several runs to be laid over each other: each record says which `run` it is of.

    A run is named by its study, by its folder where two are of the same study.

    Raises:
        ValueError: as `read_run`; a folder that is given twice.
    """
    resolved = [Path(os.path.realpath(folder)) for folder in folders]  # of a loop of links too
    for folder, place in zip(folders, resolved, strict=True):
        if resolved.count(place) > 1:
            raise ValueError(f"run: {str(folder)!r} is given twice")
    runs = [read_run(folder) for folder in folders]
    if len(runs) == 1:
        return runs
    names = [run.study["study"] for run in runs]
    if len(set(names)) < len(names):
        names = [folder.name for folder in resolved]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    return [
        replace(run, name=name, records=[record | {"run": name} for record in run.records])
        for run, name in zip(runs, names, strict=True)
    ]


def protocols_of(run: Run) -> list[str]:
    """The protocols of a run's points, in the study's order."""
    given = run.study["protocol"]
    return list(given) if isinstance(given, list) else [given]


def failed_measures(measures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Measure -> reason, of those that failed; of tasks and temperatures each by itself."""
    for name, values in measures.items():
        failed = (values or {}).get("failed")
        if name == "text_at":
            failed = {t: text["failed"] for t, text in (values or {}).items() if "failed" in text}
        if isinstance(failed, dict):
            yield from ((f"{name} {part}", reason) for part, reason in failed.items())
        elif failed is not None:
            yield name, failed
