"""The published tables of an evaluation: which models are levels of one another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resprout.measure.tasks.kept import read_task
from resprout.measure.tasks.levels import Level
from resprout.measure.tasks.tables import write_tables
from resprout.study.evaluation_plan import Plan, Subject, file_name

Document = dict[str, Any]


def write_task_tables(plan: Plan, found: Mapping[str, Mapping[str, Document]]) -> list[Path]:
    """Write `NAME_results.csv`, `NAME_metadata.json` and `NAME_summary.md` of each series.

    Args:
        plan: the evaluation.
        found: name -> measure -> document.

    Returns:
        The files.
    """
    files: list[Path] = []
    for name, subjects in series(plan.subjects, plan.baseline, plan.name).items():
        levels = [_level(plan, subject, found[subject.name]["tasks"]) for subject in subjects]
        environment = found[subjects[0].name]["tasks"]["environment"]
        files += write_tables(
            plan.folder.path, name, subjects[0].model, levels, environment, plan.asked.tolerance
        )
    return files


def series(
    subjects: Sequence[Subject], baseline: Subject | None, name: str
) -> dict[str, list[Subject]]:
    """Models that make one table: the whole one and its cuts by one method, each amount once.

    Args:
        subjects: all models.
        baseline: which whole model the cuts are of, where it is known.
        name: of the files; where there are several series, each adds its own word.

    Returns:
        Name of the files -> models.
    """
    whole = [s for s in subjects if s.method is None]
    base = baseline if baseline in whole else next(iter(whole), None)
    rows: list[tuple[str, list[Subject]]] = []
    for subject in subjects:
        if subject.method is None:
            continue
        fitting = (
            row for method, row in rows
            if method == subject.method and all(r.percentage != subject.percentage for r in row)
        )  # fmt: skip
        row = next(fitting, None)
        if row is not None:
            row.append(subject)
        else:
            rows.append((subject.method, [*([base] if base else []), subject]))
    rows += [(s.name, [s]) for s in whole if s is not base or not rows]
    if len(rows) == 1:
        return {name: rows[0][1]}
    named: dict[str, list[Subject]] = {}
    for word, row in rows:
        wanted = own = f"{name}_{file_name(word)}"
        number = 1
        while own in named:
            number += 1
            own = f"{wanted}_{number}"
        named[own] = row
    return named


def _level(plan: Plan, subject: Subject, document: Document) -> Level:
    assert plan.tasks is not None
    folder = plan.folder.tasks_of_model(subject.name)
    if "failed" in document:
        failed = {one.name: document["failed"] for one in plan.tasks.wanted}
        results = {}
    else:
        failed = document["measured"]["failed"]
        records = {task: read_task(folder, task) for task in document["measured"]["tasks"]}
        results = {task: record for task, record in records.items() if record is not None}
        lost = {task: "its file was lost" for task, record in records.items() if record is None}
        failed = failed | lost
    about = {"model": subject.model, "achieved": subject.achieved}
    return Level(subject.name, subject.percentage, subject.method, results, failed, folder, about)
