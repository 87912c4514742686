"""A workplace: where jobs are done, one after another, each subject loaded once."""

import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from resprout.files import in_one_line, is_unwritable
from resprout.measure.tasks.plan import TaskPlan
from resprout.models.quiet import quiet_transformers
from resprout.study.engines.jobs import Job, Result
from resprout.study.kept_subjects import Grown
from resprout.study.measuring import tasks_of
from resprout.study.one_point import run_point
from resprout.study.points import Point
from resprout.study.spec import StudySpec
from resprout.study.store import Store, failed_measures
from resprout.study.subjects import Subjects
from resprout.train.work_folder import remove_work

Notice = Callable[[str], None]


def usable_cores() -> int:
    """CPU cores that this process may use: a batch system gives a job some of a machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Errand:
    """All that a worker must know of a run to do its jobs; it travels.

    Attributes:
        spec: the study.
        folder: of the run.
        device: where models are trained and measured.
        ready: subject's name -> the folder of its tokens, prepared and checked.
        threads: CPU threads of every job.
        engine: what records say of how they were made; None of one process.
    """

    spec: StudySpec
    folder: Path
    device: torch.device
    ready: dict[str, Path]
    threads: int
    engine: str | None = None


class Workplace:
    """Does jobs in this process. A point's record is written here, by itself.

    Args:
        errand: the run.
        notice: called with one line as each step begins.
        subjects: where they are at hand already.
        tasks: where they are at hand already.
    """

    def __init__(
        self,
        errand: Errand,
        notice: Notice,
        subjects: Subjects | None = None,
        tasks: TaskPlan | None = None,
    ):
        self.errand = errand
        self.notice = notice
        self.store = Store(errand.folder, notice)
        self.subjects = subjects or Subjects(
            errand.spec, errand.folder, errand.device, notice, errand.ready
        )
        self._tasks = tasks
        self._tasks_read = tasks is not None
        self._held: tuple[tuple[str, int], Grown | Exception] | None = None

    def do(self, job: Job) -> Result:
        """Do a job; one that fails says so in its result, and the next can be done."""
        started = time.perf_counter()
        # The number of threads decides how sums are split, and so the last digits.
        torch.set_num_threads(self.errand.threads)
        failed: dict[str, str] = {}
        try:
            with quiet_transformers():
                if job.point is not None:
                    failed = self._point(job, job.point)
                else:
                    self._held = None  # let the last subject's memory go first
                    make = self.subjects.grow if job.kind == "grow" else self.subjects.adapt
                    make(job.subject, job.seed)
        except Exception as error:  # one job's failure must not lose the others
            reason = f"{type(error).__name__}: {error}"
            full = is_unwritable(error)
            reason = in_one_line(error) if full else reason
            return Result(job.key, reason, traceback.format_exc(), unwritable=full)
        return Result(job.key, failed_measures=failed, seconds=time.perf_counter() - started)

    def _point(self, job: Job, point: Point) -> dict[str, str]:
        subject = self._subject(point)
        self.notice(job.title)
        errand = self.errand
        record = run_point(
            errand.spec, point, subject, self.subjects, errand.device, self._task_plan()
        )
        if errand.engine is not None:
            record["environment"]["engine"] = errand.engine
        self.store.write(record)
        remove_work(self.subjects.work_of(point.id))
        return failed_measures(record)

    def _subject(self, point: Point) -> Grown:
        """The point's subject, kept for the next; one that cannot be had is not tried again."""
        key = (point.subject.name, point.seed)
        if self._held is None or self._held[0] != key:
            self._held = None  # let the last subject's memory go first
            found: Grown | Exception
            try:
                found = self._loaded(point)
            except Exception as error:
                found = error
            self._held = (key, found)
        if isinstance(self._held[1], Exception):
            raise self._held[1]
        return self._held[1]

    def _loaded(self, point: Point) -> Grown:
        """The subject that the point was planned with: its record is filed under that.

        Raises:
            ValueError: its files are others by now, or on this machine.
        """
        planned = point.identity["subject"]
        weights = planned.get("weights")  # of one that is cut as it is loaded; others have a recipe
        elsewhere = self.errand.engine is not None
        own = planned
        if elsewhere or weights is None:
            own = self.subjects.recipe(point.subject, point.seed)
        found = self.subjects.get(point.subject, point.seed) if own == planned else None
        if found is None or (weights is not None and found.digest != weights):
            raise ValueError(
                f"subject {point.subject.name!r}: its files here are not those that the run was "
                "started with; allowed are the same on every machine, unchanged until it ends"
            )
        return found

    def _task_plan(self) -> TaskPlan | None:
        if not self._tasks_read:
            self._tasks, self._tasks_read = tasks_of(self.errand.spec), True
        return self._tasks
