"""Jobs as Ray's tasks, and what runs on its workers."""

import os
import platform
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from resprout.hints import first_line
from resprout.study.engines.jobs import Job, Result
from resprout.study.engines.ray_gpu import own_gpu
from resprout.study.engines.workplace import Errand, Workplace
from resprout.study.spec import StudySpec

Notice = Callable[[str], None]

LISTEN_SECONDS = 1.0
STOP_SECONDS = 5.0  # that stopped tasks have to end
SAME_EVERYWHERE = ("resprout", "torch", "transformers")


class RayTasks:
    """An engine whose jobs are Ray's tasks.

    Args:
        ray: the module, connected.
        errand: the run.
        task: options of each task.
        limit: of tasks at a time; None = what the cluster has room for.
        notice: gets the workers' lines.
    """

    def __init__(
        self, ray: Any, errand: Errand, task: dict[str, Any], limit: int | None, notice: Notice
    ):
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        self.ray = ray
        self.limit = limit
        self.notice = notice
        # On this machine, which cannot be lost without the run: any other may be.
        here = On(ray.get_runtime_context().get_node_id(), soft=False)
        board = ray.remote(num_cpus=0, max_restarts=-1)(_Board)
        self._board = board.options(scheduling_strategy=here).remote()
        self._place = ray.put((uuid.uuid4().hex, str(Path.cwd()), versions(), errand))
        self._task = ray.remote(**task)(_do)
        self._running: dict[Any, Job] = {}

    @property
    def room(self) -> int:
        """Tasks that may still be handed in; Ray lets them wait for their resources."""
        return 1 if self.limit is None else self.limit - len(self._running)

    def choose(self, jobs: list[Job]) -> Job:
        """The first: Ray gives tasks to its workers in the order in which they come."""
        return jobs[0]

    def start(self, job: Job) -> None:
        """Hand in a task."""
        self._running[self._task.remote(self._place, job, self._board)] = job

    def next(self) -> Result:
        """Wait for a task's end, and pass on what workers say meanwhile."""
        while True:
            ended, _ = self.ray.wait(list(self._running), timeout=LISTEN_SECONDS)
            with suppress(self.ray.exceptions.RayActorError):  # it is being started again
                for line in self.ray.get(self._board.take.remote()):
                    self.notice(line)
            if ended:
                return self._result(ended[0], self._running.pop(ended[0]))

    def _result(self, reference: Any, job: Job) -> Result:
        errors = self.ray.exceptions
        try:
            found = self.ray.get(reference)
            assert isinstance(found, Result)
            return found
        except errors.RayTaskError as error:
            return Result(job.key, broken=first_line(error.cause), trace=str(error))
        except errors.OutOfMemoryError:
            said = "worker lost (its machine ran out of memory)"
            return Result(job.key, broken=said, lost=True)
        except errors.RayError as error:
            return Result(job.key, broken=f"worker lost ({type(error).__name__})", lost=True)

    def close(self) -> None:
        """Stop what still runs."""
        stopped = list(self._running)
        for reference in stopped:
            self.ray.cancel(reference, force=True)
        if stopped:  # what writes into the run's folder ends before its lock is let go
            self.ray.wait(stopped, num_returns=len(stopped), timeout=STOP_SECONDS)
        self.ray.kill(self._board)
        self._running = {}


def versions() -> dict[str, str]:
    """Of what must be the same on every machine."""
    return {name: metadata.version(name) for name in SAME_EVERYWHERE}


class _Board:
    """Where workers' lines wait until the run takes them; an actor."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def post(self, line: str) -> None:
        """One more line."""
        self.lines.append(line)

    def take(self) -> list[str]:
        """All lines since the last time."""
        taken, self.lines = self.lines, []
        return taken


# Of this worker's process: that of the run and the device at hand.
_workplaces: dict[tuple[str, torch.device], Workplace] = {}


def unfit(home: str, folder: str, wanted: dict[str, str]) -> str | None:
    """Why this machine cannot work for a run; None where it can. Goes to the run's own place."""
    named = platform.node()
    try:
        os.chdir(home)
    except OSError:
        return f"out: the machine {named!r} has no folder {home!r}; allowed is one that all share"
    if not (Path(folder) / "study.json").is_file():
        return f"out: the machine {named!r} does not see {folder!r}; allowed is one that all share"
    for name, version in versions().items():
        if version != wanted[name]:
            return (
                f"engine: the machine {named!r} has {name} {version}, the run {wanted[name]}; "
                "allowed is the same everywhere"
            )
    return None


def refusal(spec: StudySpec, device: torch.device) -> str | None:
    """What this machine's device lacks for a study; None where nothing."""
    from resprout.study.engines.starting import check_device

    if device.type == "cuda" and not torch.cuda.is_available():
        return (
            f"device: torch sees no GPU on the machine {platform.node()!r}, which has one for Ray"
        )
    try:
        check_device(spec, device, lambda line: None)
    except ValueError as error:
        return str(error)
    return None


def _do(place: tuple[str, str, dict[str, str], Errand], job: Job, board: Any) -> Result:
    """Do a job in this worker, whose workplace stays for the run's next."""
    run, home, wanted, errand = place
    device = own_gpu() if errand.device.type == "cuda" else errand.device
    if (run, device) not in _workplaces:
        said = unfit(home, str(errand.folder), wanted)
        if said is not None:
            return Result(job.key, broken=said)
        _workplaces.clear()
        who = f"[{platform.node()} {os.getpid()}]"
        own = replace(errand, device=device)
        place_here = Workplace(own, lambda line: board.post.remote(f"{who} {line}"))
        _workplaces[run, device] = place_here
    try:
        return _workplaces[run, device].do(job)
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the next job on this GPU may be another process's
