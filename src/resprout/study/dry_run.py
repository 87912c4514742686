"""What a run would do: its points, which are there, and a rough guess of the rest. Writes nothing.

Where finished points of a subject are in the folder, their stages tell what another one takes;
else shapes do (`study.forecast`).
"""

from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch

from resprout.data.tokens import TokenSet
from resprout.models.device import check_precision
from resprout.models.quiet import quiet_transformers
from resprout.record import Record, read_checked
from resprout.study.checks import check_subjects
from resprout.study.forecast import Forecaster, tokens_of
from resprout.study.kept_subjects import is_as_written
from resprout.study.measuring import check_workloads, tasks_of
from resprout.study.points import Point, digest, plan
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.study.store import Store, failed_measures, stage_seconds
from resprout.study.study_tokens import is_whole
from resprout.study.subjects import Subjects

State = Literal["done", "failed", "missing"]
Basis = Literal["points", "shapes"]
_BYTES_PER_TOKEN = 4  # of text that is not tokenised yet


@dataclass(frozen=True)
class Planned:
    """A point: whether it is there, and what it would take.

    Attributes:
        state: `failed` = a part of it failed and would be tried again.
        known: whether its id is: it is not before the text is in the subject's tokens.
        seconds, bytes: of one that is not done; None of one that is.
        basis: finished points of the subject, or its shapes.
    """

    point: Point
    state: State
    known: bool
    seconds: float | None
    bytes: float | None
    basis: Basis | None


@dataclass(frozen=True)
class Making:
    """A subject that must be grown or adapted first."""

    kind: Literal["grow", "adapt"]
    subject: str
    seed: int
    tokens: int
    seconds: float
    basis: Basis


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    Attributes:
        unprepared: subjects whose text is not tokenised yet.
        speed: the sentence that says how fast the device was taken to be; None where shapes were
            not needed.
        left_out: measures that shapes do not tell the time of, where it was guessed from shapes.
        workers: points worked at a time.
    """

    folder: Path
    points: list[Planned]
    makings: list[Making]
    unprepared: list[str]
    speed: str | None
    left_out: list[str]
    workers: int = 1

    @property
    def seconds(self) -> float:
        """All that is missing: by one worker one after another, by several as they share it out.

        Workers are taken to be as fast together as one alone, which needs a machine, or cores, for
        each. A subject's points wait for its making, and a subject's adaptation for its growing.
        """
        free = [0.0] * self.workers
        heapify(free)
        made: dict[tuple[str, int], float] = {}
        for making in self.makings:
            key = (making.subject, making.seed)
            made[key] = _begin(free, made.get(key, 0.0), making.seconds)
        for own in self.points:
            if own.seconds is not None:
                _begin(free, made.get((own.point.subject.name, own.point.seed), 0.0), own.seconds)
        return max(free)

    @property
    def peak_bytes(self) -> float | None:
        """Of the largest missing points that may be worked at a time; None: nothing is missing."""
        sizes = sorted((p.bytes for p in self.points if p.bytes is not None), reverse=True)
        return sum(sizes[: self.workers]) if sizes else None


def _begin(free: list[float], earliest: float, seconds: float) -> float:
    """Have the worker that is free first do a job, not before it can be; when it ends."""
    end = max(heappop(free), earliest) + seconds
    heappush(free, end)
    return end


class _Looking(Subjects):
    """Subjects that are looked at: nothing is prepared, trained or set aside."""

    def tokens_there(self, subject: SubjectSpec) -> bool:
        """Whether the study's text is in the subject's tokens already."""
        if self.spec.data.is_prepared:
            return True
        path, _ = self.place_of_tokens(subject)
        return path.exists() and is_whole(path)

    def tokens(self, subject: SubjectSpec) -> TokenSet:
        assert self.tokens_there(subject)
        return super().tokens(subject)

    def _place(self, recipe: dict[str, Any]) -> Path:
        path = self.folder / "subjects" / digest(recipe)
        return path if not path.exists() or is_as_written(path) else path / "broken"


def dry_run(spec: StudySpec, folder: Path, device: torch.device, workers: int = 1) -> DryRun:
    """Look at what a run of the study into that folder would do, by so many workers.

    Raises:
        ValueError: as `run_study`, before it begins.
    """
    check_precision(spec.precision, device)
    check_subjects(spec)
    check_workloads(spec, device, lambda line: None)
    tasks_of(spec)
    Store(folder).check_own(spec.study)
    with quiet_transformers():
        subjects = _Looking(spec, folder, device, lambda line: None)
        there = {s.name: subjects.tokens_there(s) for s in spec.subjects}
        recipes: dict[tuple[str, int], dict[str, Any]] = {}
        for subject in spec.subjects:
            if there[subject.name]:
                subjects.check_lengths(subject)
            for seed in spec.seeds:
                known = there[subject.name]
                recipes[subject.name, seed] = (
                    subjects.recipe(subject, seed) if known else {"not known yet": subject.name}
                )
        digests = {
            s.name: subjects.tokens(s).digest if there[s.name] else "not known yet"
            for s in spec.subjects
        }
        points = plan(spec, recipes, digests, device.type)
        return replace(_looked_at(spec, subjects, points, there), workers=workers)


def _looked_at(
    spec: StudySpec, subjects: _Looking, points: list[Point], there: dict[str, bool]
) -> DryRun:
    records = {point.id: _record(subjects.folder, point) for point in points}
    forecaster = Forecaster(spec, subjects.device)
    costs = {s.name: _Costs(subjects, s, forecaster, records, there) for s in spec.subjects}
    planned = []
    for point in points:
        record = records[point.id]
        state: State = "missing"
        if record is not None:
            state = "failed" if failed_measures(record) else "done"
        elif (subjects.folder / "points" / f"{point.id}.failed.json").is_file():
            state = "failed"
        own = costs[point.subject.name]
        seconds, size, basis = own.of(point) if state != "done" else (None, None, None)
        planned.append(Planned(point, state, there[point.subject.name], seconds, size, basis))
    wanted = dict.fromkeys((p.point.subject.name, p.point.seed) for p in planned if p.bytes)
    by_name = {s.name: s for s in spec.subjects}
    makings: dict[tuple[str, str], Making] = {}
    for name, seed in wanted:
        for kind, key in _unmade(subjects, by_name[name], seed, there[name]):
            makings.setdefault((kind, key), costs[name].making(kind, seed))
    return DryRun(
        folder=subjects.folder,
        points=planned,
        makings=list(makings.values()),
        unprepared=[name for name, known in there.items() if not known],
        speed=forecaster.speed,
        left_out=[
            name
            for name in ("tasks", "energy")
            if name in spec.measures and any(p.basis == "shapes" for p in planned)
        ],
    )


def _unmade(
    subjects: _Looking, subject: SubjectSpec, seed: int, known: bool
) -> list[tuple[Literal["grow", "adapt"], str]]:
    if known:
        return subjects.unmade(subject, seed)
    shape = f"{subject.model} {subject.config} {subject.learning_rate} {seed}"
    steps: list[tuple[Literal["grow", "adapt"], str]] = []
    if subject.learning_rate is not None:
        steps.append(("grow", shape))
    if subjects.spec.adapts:
        steps.append(("adapt", f"{subject.name} {seed}"))
    return steps


def _record(folder: Path, point: Point) -> dict[str, Any] | None:
    """The point's record; unlike `Store.read` it leaves a broken one where it is."""
    try:
        record: dict[str, Any] = read_checked(folder / "points" / f"{point.id}.json", Record)
    except ValueError:
        return None
    return record if record["id"] == point.id else None


class _Costs:
    """What the points of one subject take."""

    def __init__(
        self,
        subjects: _Looking,
        subject: SubjectSpec,
        forecaster: Forecaster,
        records: dict[str, dict[str, Any] | None],
        there: dict[str, bool],
    ):
        self.subjects = subjects
        self.subject = subject
        self.forecaster = forecaster
        self.records = [
            r
            for r in records.values()
            if r is not None and r["subject"] == subject.name and not failed_measures(r)
        ]
        self.known = there[subject.name]

    def of(self, point: Point) -> tuple[float, float, Basis]:
        """Seconds and bytes of one point."""
        if self.records:
            own = [r for r in self.records if (r["amount"] > 0) == (point.amount > 0)]
            seconds = fmean(stage_seconds(r) for r in own or self.records)
            peaks = [cost["peak_bytes"] for r in self.records for cost in r["stages"].values()]
            return seconds, max(peaks), "points"
        shape = self.forecaster.shape(self.subject)
        seconds = self.forecaster.point_seconds(shape, point, self._held_out_tokens())
        return seconds, self.forecaster.point_bytes(shape), "shapes"

    def making(self, kind: Literal["grow", "adapt"], seed: int) -> Making:
        """Growing or adapting it."""
        spec = self.subjects.spec
        options = spec.training if kind == "grow" else spec.adaptation
        assert options is not None
        tokens = tokens_of(options, spec.data.window)
        stage = "train" if kind == "grow" else "adaptation"
        took = [r["stages"][stage]["seconds"] for r in self.records if stage in r["stages"]]
        if took:
            return Making(kind, self.subject.name, seed, tokens, fmean(took), "points")
        shape = self.forecaster.shape(self.subject)
        seconds = self.forecaster.training_seconds(shape, tokens)
        return Making(kind, self.subject.name, seed, tokens, seconds, "shapes")

    def _held_out_tokens(self) -> float:
        if self.known:
            return float(len(self.subjects.tokens(self.subject).val.tokens))
        share = self.subjects.spec.data.held_out or 0.0
        text = sum(len(document.text) for document in self.subjects.documents)
        return text * share / _BYTES_PER_TOKEN
