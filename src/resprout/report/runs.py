"""Runs at a glance: how far each is, and what came out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resprout.record import PointFailure, Record, StudyFile, read_checked
from resprout.report.curves import curves
from resprout.report.records import failed_measures
from resprout.report.summary import first_sentence


@dataclass(frozen=True)
class RunState:
    """A run's folder.

    Attributes:
        study: its name; None where the folder is broken.
        done, failed, missing: points. A point of which a measure failed has failed.
        headline: what came out, in a sentence; None where nothing is finished.
        trouble: what cannot be read there, the first of it; None where all can.
    """

    folder: Path
    study: str | None
    done: int = 0
    failed: int = 0
    missing: int = 0
    headline: str | None = None
    trouble: str | None = None

    @property
    def points(self) -> int:
        """All of the study."""
        return self.done + self.failed + self.missing


def run_states(parent: Path) -> list[RunState]:
    """The runs in a folder, or the folder's own where it is a run; by name.

    Raises:
        ValueError: there is no such folder.
    """
    if not parent.is_dir():
        raise ValueError(f"runs: {str(parent)!r} is not a folder")
    if _looks_like_a_run(parent):
        return [_state(parent)]
    return [_state(folder) for folder in sorted(parent.iterdir()) if _looks_like_a_run(folder)]


def _looks_like_a_run(folder: Path) -> bool:
    return (folder / "study.json").is_file() or (folder / "points").is_dir()


def _state(folder: Path) -> RunState:
    if not (folder / "study.json").is_file():
        return RunState(folder, None, trouble="no study.json (stopped before its first point?)")
    try:
        study = read_checked(folder / "study.json", StudyFile)
    except ValueError as error:
        return RunState(folder, None, trouble=str(error))
    records: list[dict[str, Any]] = []
    counts = {"done": 0, "failed": 0, "missing": 0}
    trouble: str | None = None
    for identity in study["points"]:
        try:
            record, state = _point(folder / "points", identity)
        except ValueError as error:
            record, state, trouble = None, "missing", trouble or str(error)
        counts[state] += 1
        if record is not None and "nats_per_token" in record["measures"]["loss"]:
            records.append(record)
    said: str | None = None
    try:
        said = first_sentence(curves(records))
    except Exception as error:  # records that do not fit together must not hide the other runs
        trouble = trouble or f"no headline ({type(error).__name__}: {error})"
    return RunState(folder, study["study"], **counts, headline=said, trouble=trouble)


def _point(folder: Path, identity: str) -> tuple[dict[str, Any] | None, str]:
    """A point's record, if it is there, and its state.

    Raises:
        ValueError: its file cannot be read.
    """
    path, failed = folder / f"{identity}.json", folder / f"{identity}.failed.json"
    if not path.is_file():
        if failed.is_file():
            read_checked(failed, PointFailure)
            return None, "failed"
        return None, "missing"
    record: dict[str, Any] = read_checked(path, Record)
    if record["id"] != identity:
        raise ValueError(f"{path}: holds the point {record['id']}")
    return record, "failed" if any(failed_measures(record["measures"])) else "done"
