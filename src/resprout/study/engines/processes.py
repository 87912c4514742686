"""Worker processes of this machine: each with its own torch, subject and GPU, if there is one."""

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from resprout.study.engines.jobs import Job, Result
from resprout.study.engines.workplace import Errand, Workplace

Notice = Callable[[str], None]

STOP_SECONDS = 5.0  # that a worker has to end by itself


class WorkerProcesses:
    """An engine of `count` processes that are started with the first jobs.

    Args:
        errand: the run.
        count: of processes.
        notice: gets the workers' lines.
    """

    def __init__(self, errand: Errand, count: int, notice: Notice):
        self.errand = errand
        self.count = count
        self.notice = notice
        self._workers: list[_Worker] = []

    @property
    def room(self) -> int:
        """Workers without a job, and workers that are not started yet."""
        return self.count - sum(worker.job is not None for worker in self._workers)

    def choose(self, jobs: list[Job]) -> Job:
        """The first whose subject a free worker holds, else the first."""
        held = {worker.last for worker in self._workers if worker.job is None}
        return next((job for job in jobs if _subject(job) in held), jobs[0])

    def start(self, job: Job) -> None:
        """Give the job to a worker that is free, rather one that holds its subject."""
        free = [worker for worker in self._workers if worker.job is None]
        worker = next((w for w in free if w.last == _subject(job)), None)
        if worker is None and len(self._workers) < self.count:
            worker = _Worker(self.errand, _free_number(self._workers))
            self._workers.append(worker)
        worker = worker or free[0]
        worker.give(job)

    def next(self) -> Result:
        """Wait for a worker's result, or its end."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker = busy[pipe]
                try:
                    said = pipe.recv()
                except (EOFError, OSError):
                    return self._lost(worker)
                if isinstance(said, Result):
                    worker.job = None
                    return said
                self.notice(f"[worker {worker.number}] {said}")

    def _lost(self, worker: "_Worker") -> Result:
        job = worker.job
        assert job is not None
        self._workers.remove(worker)
        how = worker.ended()
        return Result(job.key, broken=f"worker {worker.number} {how}", lost=True)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.ended()
        self._workers = []


class _Worker:
    """A worker process as the run sees it."""

    def __init__(self, errand: Errand, number: int):
        context = multiprocessing.get_context("spawn")  # a fork of a threaded torch may hang
        self.number = number
        self.job: Job | None = None
        self.last: tuple[str, int] | None = None
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=_work, args=(errand, other), name=f"worker {number}", daemon=True
        )
        # Read by libraries as they are imported, so set before the process begins.
        own = _own_gpu(errand.device, number) | _threads(errand.threads)
        with _environment(own), _without_interrupts():
            self.process.start()
        other.close()  # so that the pipe ends when the process does

    def give(self, job: Job) -> None:
        """Hand it a job."""
        self.job, self.last = job, _subject(job)
        with suppress(OSError):  # it died before; `next` will see so
            self.pipe.send(job)

    def ended(self) -> str:
        """See it off; how it ended, in words."""
        self.pipe.close()
        self.process.join(STOP_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        assert code is not None
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        why = " (as where memory runs out)" if name == "SIGKILL" else ""
        return f"was killed by {name}{why}"


def _subject(job: Job) -> tuple[str, int]:
    return job.subject.name, job.seed


def _free_number(workers: list[_Worker]) -> int:
    """The lowest number, from 1, that no worker has."""
    taken = {worker.number for worker in workers}
    return next(n for n in range(1, len(workers) + 2) if n not in taken)


def _own_gpu(device: torch.device, number: int) -> dict[str, str]:
    """Workers go round the GPUs that this process sees, unless a certain one was asked for."""
    if device.type != "cuda" or device.index is not None:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": names[(number - 1) % len(names)]}


def _threads(count: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(count)}


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process begun here never gets Ctrl-C; this one gets it when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _NoTerminal(io.TextIOWrapper):
    """Standard error without the bars that several workers would draw over one another."""

    def isatty(self) -> bool:
        """No."""
        return False


def _work(errand: Errand, pipe: Any) -> None:
    """A worker's life: do what the pipe brings until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's, which then ends workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stderr = _NoTerminal(sys.stderr.buffer, encoding="utf-8", line_buffering=True)
    workplace = Workplace(errand, notice=pipe.send)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(workplace.do(job))


def _end_with_parent() -> None:
    """A run that was killed holds its folder no longer: nothing may go on there."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
