"""Running a study: what is missing is done, point by point; what is done is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resprout.models.quiet import quiet_transformers
from resprout.study.checks import check_subjects
from resprout.study.engines.engine import work_through
from resprout.study.engines.jobs import jobs_of
from resprout.study.engines.options import EngineOptions
from resprout.study.engines.starting import Runner
from resprout.study.points import Point, plan
from resprout.study.spec import StudySpec
from resprout.study.store import Store
from resprout.study.subjects import Subjects

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the records, and the points and measures that failed, with reasons."""

    records: list[dict[str, Any]]
    failures: dict[str, str]
    computed: int


def run_study(
    spec: StudySpec,
    folder: Path,
    device: torch.device,
    notice: Notice,
    engine: EngineOptions | None = None,
) -> Outcome:
    """Do all that is missing of a study.

    Args:
        spec: the study.
        folder: of the run; made if missing.
        device: where models are trained and measured.
        notice: called with one line as each step begins.
        engine: where points are worked and by how many workers; default one by one, here.

    Raises:
        ValueError: the study cannot be run (subjects, text, precision, folder, engine); nothing
            was trained then.
    """
    check_subjects(spec)
    with Runner(spec, folder, device, notice, engine or EngineOptions()) as runner:
        tasks = runner.check()
        subjects = Subjects(spec, folder, device, notice)
        with quiet_transformers():
            subjects.check_text()
        store = Store(folder, notice)
        store.check_writable(spec.study)
        with store.locked(), quiet_transformers():
            points = points_of(spec, subjects)
            store.declare(spec, points)
            missing = [point for point in points if not store.finished(point)]
            if len(missing) < len(points):
                notice(f"{len(points) - len(missing)} of {len(points)} points are there already")
            ready = {subject.name: subjects.tokens(subject).path for subject in spec.subjects}
            jobs = jobs_of(spec, missing, subjects)
            failures: dict[str, str] = {}
            if jobs:
                with runner.engine(ready, subjects, tasks) as working:
                    failures = work_through(jobs, working, store, notice, runner.parallel)
                failures |= _unseen(missing, store)
            records = store.records(points)
            store.derive(records)
    return Outcome(records, failures, len(missing))


def _unseen(done: list[Point], store: Store) -> dict[str, str]:
    """Points that were worked elsewhere and whose records did not come here."""
    store.look_afresh()
    return {
        point.label: f"its record is not in {str(store.points)!r}; allowed is a folder that all "
        "machines share"
        for point in done
        if store.read(point) is None and not store.failed(point)
    }


def points_of(spec: StudySpec, subjects: Subjects) -> list[Point]:
    """All points of a study, its text prepared in the tokens of each subject.

    Raises:
        ValueError: what only the tokens tell: a text or prompt of the wrong length.
    """
    recipes = {
        (subject.name, seed): subjects.recipe(subject, seed)
        for subject in spec.subjects
        for seed in spec.seeds
    }
    for subject in spec.subjects:
        subjects.check_lengths(subject)
    tokens = {subject.name: subjects.tokens(subject).digest for subject in spec.subjects}
    return plan(spec, recipes, tokens, subjects.device.type)
