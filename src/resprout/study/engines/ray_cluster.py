"""Ray: a cluster that runs already, or one of this machine for the time of a run."""

import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resprout.hints import first_line
from resprout.study.engines.options import EngineOptions
from resprout.study.engines.ray_import import import_ray
from resprout.study.engines.ray_tasks import RayTasks, refusal, unfit, versions
from resprout.study.engines.workplace import Errand
from resprout.study.spec import StudySpec
from resprout.study.spec_resources import ResourcesSpec

Notice = Callable[[str], None]

CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 10.0  # importing Ray is half of it
OBJECT_STORE_BYTES = 128 * 1024 * 1024  # only jobs and their results go through it


class RayCluster:
    """A connection to a cluster, or a cluster of this machine alone for the time of the run.

    Args:
        options: of the engine.
        resources: of a point.
        threads: CPU threads of a point.
        device: of a point.
        notice: called with one line of what the user should know.

    Raises:
        ValueError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(
        self,
        options: EngineOptions,
        resources: ResourcesSpec,
        threads: int,
        device: torch.device,
        notice: Notice,
    ):
        self.ray = import_ray()
        self.options = options
        self.notice = notice
        gpus = 0.0 if device.type == "cpu" else 1.0 if resources.gpus is None else resources.gpus
        memory = int(resources.memory_gb * 10**9) if resources.memory_gb else None
        # Nothing is retried by Ray: `work_through` does so, and says so. A worker stays for the
        # next job (Ray ends those that used a GPU), and with it the subject that it holds.
        self.wanted: dict[str, Any] = {"num_cpus": threads, "num_gpus": gpus, "memory": memory}
        self.task: dict[str, Any] = self.wanted | {"max_retries": 0, "max_calls": 0}
        self._mine = not self.ray.is_initialized()
        # Ray's own variable, which `ray job submit` sets for what it runs.
        address = options.address or os.environ.get("RAY_ADDRESS") or "local"
        if self._mine:
            self._connect(address)
        self._tell_if_none_fits(self._mine and address == "local")

    def _connect(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            cores = os.cpu_count() or 1
            count = self.options.workers or max(1, cores // self.wanted["num_cpus"])
            common |= {
                "num_cpus": count * self.wanted["num_cpus"],
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        else:
            check_answers(address)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.ray.init(address=address, **common)
        except Exception as error:  # Ray's own kinds, all meaning that it cannot be used
            if address == "local":
                raise ValueError(
                    f"engine: got 'ray', which cannot be started here ({first_line(error)})"
                ) from error
            raise _no_answer(address, first_line(error)) from error

    def _tell_if_none_fits(self, started_here: bool) -> None:
        names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
        need = {names[key]: amount for key, amount in self.wanted.items() if amount}
        nodes = [node["Resources"] for node in self._nodes()]
        if any(all(node.get(k, 0) >= v for k, v in need.items()) for node in nodes):
            return
        told = ", ".join(f"{name} {amount:g}" for name, amount in need.items())
        if started_here:
            self.close()
            raise ValueError(f"resources: got {told} for a point, which this machine has not")
        self.notice(f"no machine of the cluster has {told} now; points wait until one joins")

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def check_device(self, spec: StudySpec, device: torch.device) -> None:
        """Have a worker refuse what its device lacks.

        Raises:
            ValueError: naming the field.
        """
        said = self.ray.get(self.ray.remote(**self.task)(refusal).remote(spec, device))
        if said is not None:
            raise ValueError(said)

    def engine(self, errand: Errand) -> "RayTasks":
        """Hand jobs out.

        Raises:
            ValueError: a machine does not see the run's folder, or has other versions.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        probe = self.ray.remote(num_cpus=0, max_retries=0)(unfit)
        asked = [
            probe.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote(
                str(Path.cwd()), str(errand.folder), versions()
            )
            for node in self._nodes()
        ]
        for said in self.ray.get(asked):
            if said is not None:
                raise ValueError(said)
        return RayTasks(self.ray, errand, self.task, self.options.workers, self.notice)

    def close(self) -> None:
        """Let the cluster go, and end it where it was started here."""
        if self._mine:
            self.ray.shutdown()


def check_answers(address: str) -> None:
    """See whether a cluster's head answers at an address, within seconds.

    Raises:
        ValueError: it does not.
    """
    if address == "auto":
        return  # Ray looks on this machine alone, and says at once
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"address: got {address!r}, allowed is HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise _no_answer(address, error.strerror or str(error)) from error
    # Ray's own connecting to what does not answer waits for a minute, and then ends the process.
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _no_answer(address, f"no word in {ANSWER_SECONDS:g} s") from error
    # A cluster that asks for a token answers; whether there is one, Ray sees when connecting.
    if done.returncode and b"AuthenticationError" not in done.stderr:
        raise _no_answer(address, "something listens there, but not a Ray of this version")


def _no_answer(address: str, why: str) -> ValueError:
    return ValueError(
        f"address: no Ray cluster answers at {address!r} ({why}); allowed is the head of one that "
        "runs, as `ray start --head` names it"
    )
