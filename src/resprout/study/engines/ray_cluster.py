"""Ray: a cluster that runs already, or one of this machine for the time of a run."""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from resprout.hints import first_line
from resprout.study.engines.options import EngineOptions
from resprout.study.engines.ray_answers import check_answers, no_answer
from resprout.study.engines.ray_gpu import ENVIRONMENT
from resprout.study.engines.ray_import import check_installed, import_ray
from resprout.study.engines.ray_tasks import RayTasks, refusal, unfit, versions
from resprout.study.engines.workplace import Errand, usable_cores
from resprout.study.spec import StudySpec
from resprout.study.spec_resources import ResourcesSpec

Notice = Callable[[str], None]

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
        address = options.cluster or "local"
        check_installed()
        if address != "local":
            check_answers(address)
        self.ray = import_ray()
        self.options = options
        self.notice = notice
        gpus = 0.0 if device.type == "cpu" else 1.0 if resources.gpus is None else resources.gpus
        memory = int(resources.memory_gb * 10**9) if resources.memory_gb else None
        # Nothing is retried by Ray: `work_through` does so, and says so. A worker stays for the
        # next job (Ray ends those that used a GPU), and with it the subject that it holds.
        self.wanted: dict[str, Any] = {"num_cpus": threads, "num_gpus": gpus, "memory": memory}
        self.task: dict[str, Any] = self.wanted | {"max_retries": 0, "max_calls": 0}
        if gpus:
            self.task["runtime_env"] = {"env_vars": ENVIRONMENT}
        self._mine = not self.ray.is_initialized()
        self.started_here = self._mine and address == "local"
        if self._mine:
            self._connect(address)
        self._tell_if_none_fits()
        if device.type == "cpu" and any(n["Resources"].get("GPU") for n in self._nodes()):
            self.notice("the cluster has GPUs, points use none (--device cuda gives them one)")

    def _connect(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address == "local":
            count = self.options.workers or max(1, usable_cores() // self.wanted["num_cpus"])
            common |= {
                "num_cpus": count * self.wanted["num_cpus"],
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
            }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.ray.init(address=address, **common)
        except Exception as error:  # Ray's own kinds, all meaning that it cannot be used
            if address == "local":
                raise ValueError(
                    f"engine: got 'ray', which cannot be started here ({first_line(error)})"
                ) from error
            raise no_answer(address, first_line(error)) from error

    def _tell_if_none_fits(self) -> None:
        names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
        need = {names[key]: amount for key, amount in self.wanted.items() if amount}
        nodes = [node["Resources"] for node in self._nodes()]
        if any(all(node.get(k, 0) >= v for k, v in need.items()) for node in nodes):
            return
        told = f"{need['CPU']} CPU"
        if "GPU" in need:
            told += f", {need['GPU']:g} GPU"
        if "memory" in need:
            told += f", {need['memory'] / 1e9:g} GB of memory"
        if self.started_here:
            self.close()
            raise ValueError(f"resources: got {told} for a point, which this machine has not")
        self.notice(f"no machine of the cluster has {told} now: points wait until one joins")

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def check_device(self, spec: StudySpec, device: torch.device) -> None:
        """Have a worker refuse what its device lacks.

        Raises:
            ValueError: naming the field.
        """
        said = self._answer(self.ray.remote(**self.task)(refusal).remote(spec, device))
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
        for reference in asked:
            said = self._answer(reference)
            if said is not None:
                raise ValueError(said)
        return RayTasks(self.ray, errand, self.task, self.options.workers, self.notice)

    def _answer(self, reference: Any) -> str | None:
        """What a machine says to a probe; one that goes away meanwhile says nothing."""
        errors = self.ray.exceptions
        try:
            said: str | None = self.ray.get(reference)
            return said
        except errors.RayTaskError as error:
            why = first_line(error.cause or error)
            return f"engine: a machine of the cluster cannot run Resprout ({why})"
        except errors.RayError:
            return None

    def close(self) -> None:
        """Let the cluster go, and end it where it was started here."""
        if self._mine:
            self.ray.shutdown()
