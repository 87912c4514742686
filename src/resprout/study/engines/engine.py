"""Handing out jobs: an engine does them, this loop keeps their order and what became of them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from resprout.files import WriteError
from resprout.hints import unused
from resprout.study.engines.jobs import Job, Result
from resprout.study.engines.workplace import Workplace
from resprout.study.store import Store

Notice = Callable[[str], None]

RETRIES = 2  # of a job whose worker went away; a job that kills its worker thrice is at fault


class Engine(Protocol):
    """Does jobs, one or many at a time."""

    @property
    def room(self) -> int:
        """How many more jobs it takes now."""
        ...

    def choose(self, jobs: list[Job]) -> Job:
        """Which of these it would take next: rather one whose subject it holds."""
        ...

    def start(self, job: Job) -> None:
        """Take a job."""
        ...

    def next(self) -> Result:
        """Wait until a job that it took ends, one way or the other."""
        ...

    def close(self) -> None:
        """Let go of all workers; what they are doing is dropped."""
        ...


class OneProcess:
    """One job at a time, in this process."""

    def __init__(self, workplace: Workplace):
        self.workplace = workplace
        self._job: Job | None = None

    @property
    def room(self) -> int:
        """One job."""
        return 1 if self._job is None else 0

    def choose(self, jobs: list[Job]) -> Job:
        """The first: they stand subject by subject."""
        return jobs[0]

    def start(self, job: Job) -> None:
        """Remember it."""
        self._job = job

    def next(self) -> Result:
        """Do it."""
        assert self._job is not None
        job, self._job = self._job, None
        return self.workplace.do(job)

    def close(self) -> None:
        """There is nothing to let go of."""


@dataclass
class _Progress:
    """Lines on how far a run is, where several points are worked at a time."""

    points: int
    notice: Notice
    done: int = 0
    started: float | None = None

    def begun(self, job: Job) -> None:
        """A job was handed out; the time of the points counts from the first of them."""
        if job.point is not None and self.started is None:
            self.started = time.perf_counter()

    def told(self, job: Job, result: Result) -> None:
        """One more job has ended."""
        if job.point is None:
            how = f"done in {_time(result.seconds)}" if result.broken is None else "failed"
            self.notice(f"{job.title}: {how}")
            return
        self.done += 1
        spent = time.perf_counter() - self.started if self.started is not None else 0.0
        left = spent / self.done * (self.points - self.done)
        end = f"; about {_time(left)} left" if self.done < self.points else ""
        failed = " failed" if result.broken is not None else ""
        self.notice(f"{self.done} of {self.points} points done ({job.point.label}{failed}){end}")


def work_through(
    jobs: Iterable[Job], engine: Engine, store: Store, notice: Notice, tell_ends: bool
) -> dict[str, str]:
    """Do all jobs; a point that fails is recorded as failed, and the others go on.

    Args:
        jobs: each behind those that it needs.
        engine: does them.
        store: of the run; failures are written there (a record is written by its point itself).
        notice: called with a line where a job is tried again.
        tell_ends: whether to say as jobs end, with an estimate.

    Raises:
        WriteError: nothing more can be written.

    Returns:
        What failed: the point's label, or `LABEL, MEASURE` -> reason.
    """
    waiting = {job.key: job for job in jobs}
    progress = _Progress(sum(job.point is not None for job in waiting.values()), notice)
    running: dict[str, Job] = {}
    tries: dict[str, int] = {}
    broken: dict[str, Result] = {}
    failures: dict[str, str] = {}

    def ended(job: Job, result: Result) -> None:
        if result.broken is not None:
            broken[job.key] = result
            if job.point is not None:
                store.write_failure(job.point, result.broken, result.trace)
                failures[unused(job.point.label, job.point.id, failures)] = result.broken
        elif job.point is not None:
            for measure, reason in result.failed_measures.items():
                named = unused(f"{job.point.label}, {measure}", job.point.id, failures)
                failures[named] = reason
        if tell_ends:
            progress.told(job, result)

    def unmet(job: Job) -> bool:
        return any(need in waiting or need in running for need in job.needs)

    while waiting or running:
        for job in list(waiting.values()):
            # Of a subject that could not be made no point can be: each fails with that reason.
            cause = next((broken[need] for need in job.needs if need in broken), None)
            if cause is not None:
                ended(waiting.pop(job.key), cause)
        while engine.room > 0 and (ready := [j for j in waiting.values() if not unmet(j)]):
            job = engine.choose(ready)
            running[job.key] = waiting.pop(job.key)
            progress.begun(job)
            engine.start(job)
        if not running:
            continue
        result = engine.next()
        job = running.pop(result.key)
        tries[job.key] = tries.get(job.key, 0) + 1
        if result.unwritable:
            raise WriteError(
                f"{store.folder}: {result.broken}; finished points and checkpoints are kept; make "
                "room, then give the same command again"
            )
        if result.lost and tries[job.key] <= RETRIES:
            notice(f"{result.broken}; once more: {job.title}")
            waiting = {job.key: job, **waiting}
        else:
            ended(job, result)
    return failures


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
