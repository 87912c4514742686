"""From options to an engine: who works, with how many threads, and what the user should know."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from resprout.measure.tasks.plan import TaskPlan
from resprout.models.device import check_precision, resolve_device
from resprout.study.engines.engine import Engine, OneProcess
from resprout.study.engines.options import EngineOptions
from resprout.study.engines.processes import WorkerProcesses
from resprout.study.engines.workplace import Errand, Workplace, usable_cores
from resprout.study.measuring import check_workloads, tasks_of
from resprout.study.spec import StudySpec
from resprout.study.subjects import Subjects

if TYPE_CHECKING:
    from resprout.study.engines.ray_cluster import RayCluster

Notice = Callable[[str], None]


def study_device(name: str, spec: StudySpec, options: EngineOptions) -> torch.device:
    """The device of a study's points; under Ray this machine need not have one.

    Args:
        name: as the user gives it: `auto`, `cpu`, `cuda`, ...
        spec: the study.
        options: of the engine.

    Raises:
        ValueError: no such device; under Ray a certain GPU, or one that no point is given.
    """
    if options.name != "ray":
        return resolve_device(name)
    gpus = options.resources(spec).gpus
    if name == "auto":
        wanted = torch.cuda.is_available() if gpus is None else gpus > 0
        return torch.device("cuda" if wanted else "cpu")
    if name not in ("cpu", "cuda"):
        raise ValueError(
            f"device: got {name!r}, allowed with the engine ray are auto, cpu, cuda; "
            "Ray gives each point its GPU"
        )
    if name == "cuda" and gpus == 0:
        raise ValueError("device: got 'cuda' with 0 gpus for a point, allowed is a share above 0")
    return torch.device(name)


class Runner:
    """What does the points of one run; a context, at whose end a cluster is let go.

    Args:
        spec: the study.
        folder: of the run.
        device: where models are trained and measured.
        notice: called with one line of what the user should know.
        options: of the engine.

    Raises:
        ValueError: on entering: Ray is not installed, or its cluster does not answer.
    """

    def __init__(
        self,
        spec: StudySpec,
        folder: Path,
        device: torch.device,
        notice: Notice,
        options: EngineOptions,
    ):
        self.spec = spec
        self.folder = folder
        self.device = device
        self.notice = notice
        self.options = options
        self.resources = options.resources(spec)
        # One number for all engines: how sums are split among threads decides the last digits.
        self.threads = self.resources.cpus or torch.get_num_threads()
        self._open = ExitStack()
        self._cluster: RayCluster | None = None

    def __enter__(self) -> "Runner":
        if self.options.name == "ray":
            from resprout.study.engines.ray_cluster import RayCluster

            self._cluster = RayCluster(
                self.options, self.resources, self.threads, self.device, self.notice
            )
            self._open.callback(self._cluster.close)
        return self

    def __exit__(self, *of_error: object) -> None:
        self._open.close()

    @property
    def parallel(self) -> bool:
        """Whether points are worked elsewhere than in this process."""
        return self.options.name == "ray" or (self.options.workers or 1) > 1

    def check(self) -> TaskPlan | None:
        """Refuse what the device lacks, before anything is trained; the study's tasks.

        Raises:
            ValueError: naming the field.
        """
        if self._cluster is not None and self.device.type != "cpu":
            self._cluster.check_device(self.spec, self.device)
        else:
            check_device(self.spec, self.device, self.notice)
        return tasks_of(self.spec)

    @contextmanager
    def engine(
        self, ready: dict[str, Path], subjects: Subjects, tasks: TaskPlan | None
    ) -> Iterator[Engine]:
        """The engine, its workers ended when the block ends, however it does.

        Args:
            ready: subject's name -> the folder of its tokens, prepared and checked.
            subjects: the study's.
            tasks: the study's.

        Raises:
            ValueError: a machine of the cluster does not see the run's folder.
        """
        count = self.options.workers or 1
        where = None
        if self._cluster is not None:
            where = "ray"
        elif self.parallel:
            where = f"local, {count} workers"
        errand = Errand(self.spec, self.folder, self.device, ready, self.threads, where)
        if self.parallel:
            self._tell(count)
        working: Engine
        if self._cluster is not None:
            working = self._cluster.engine(errand)
        elif self.parallel:
            working = WorkerProcesses(errand, count, self.notice)
        else:
            working = OneProcess(Workplace(errand, self.notice, subjects, tasks))
        threads_before = torch.get_num_threads()
        try:
            yield working
        finally:
            working.close()
            torch.set_num_threads(threads_before)

    def _tell(self, workers: int) -> None:
        cores = usable_cores()
        here = self._cluster is None or self._cluster.started_here
        if here and workers * self.threads > cores:
            self.notice(
                f"{workers} at a time with {self.threads} threads each on {cores} cores: fewer "
                "(--cpus) are faster, but change the last digits of the figures"
            )
        timed = sorted({"speed", "energy"} & set(self.spec.measures))
        if timed:
            self.notice(
                f"{' and '.join(timed)}: measured while other points are worked on the same "
                "machine; figures to publish need one at a time (--workers 1)"
            )


def check_device(spec: StudySpec, device: torch.device, notice: Notice) -> None:
    """Refuse a precision or workloads that the device has not the means for.

    Raises:
        ValueError: naming the field.
    """
    check_precision(spec.precision, device)
    check_workloads(spec, device, notice)
