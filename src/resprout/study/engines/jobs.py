"""Jobs: what an engine hands out. Subjects are made first, once; the points that cut them wait."""

from dataclasses import dataclass, field
from typing import Literal

from resprout.study.points import Point
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.study.subjects import Subjects


@dataclass(frozen=True)
class Job:
    """One piece of work that is done whole in one place.

    Attributes:
        key: names it among the jobs of a run.
        kind: `grow` or `adapt` a subject, or cut and measure a `point`.
        title: how progress and errors name it.
        needs: keys of the jobs that must be done before.
    """

    key: str
    kind: Literal["grow", "adapt", "point"]
    title: str
    subject: SubjectSpec
    seed: int
    needs: tuple[str, ...] = ()
    point: Point | None = None


@dataclass(frozen=True)
class Result:
    """What became of a job.

    Attributes:
        key: the job's.
        broken: why it has no result; None where it has one.
        trace: of the error that broke it.
        lost: whether its worker went away, so that the job may be tried again.
        unwritable: whether it broke because nothing can be written, as on a full disk: no other
            job would fare better.
        failed_measures: of a point: measure -> reason.
        seconds: it took.
    """

    key: str
    broken: str | None = None
    trace: str = ""
    lost: bool = False
    unwritable: bool = False
    failed_measures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def jobs_of(spec: StudySpec, points: list[Point], subjects: Subjects) -> list[Job]:
    """The jobs that the points come to, each subject's own before its points.

    Args:
        spec: the study.
        points: those that are missing.
        subjects: the study's; they tell what is not made yet.
    """
    jobs: dict[str, Job] = {}
    last: dict[tuple[str, int], tuple[str, ...]] = {}
    for number, point in enumerate(points, start=1):
        subject, seed = point.subject, point.seed
        if (subject.name, seed) not in last:
            needs: tuple[str, ...] = ()
            for kind, key in subjects.unmade(subject, seed):
                title = f"{kind} {subject.name}, seed {seed}"
                jobs.setdefault(key, Job(key, kind, title, subject, seed, needs))
                needs = (key,)
            last[subject.name, seed] = needs
        title = f"point {number} of {len(points)}: {point.label}"
        needs = last[subject.name, seed]
        jobs[point.id] = Job(point.id, "point", title, subject, seed, needs, point)
    return list(jobs.values())
