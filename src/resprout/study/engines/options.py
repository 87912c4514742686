"""How a study is run: which engine, how many workers, what a point is given. Imports no torch."""

import os
from dataclasses import dataclass

from pydantic import ValidationError

from resprout.hints import did_you_mean
from resprout.study.engines.ray_answers import check_listens
from resprout.study.spec import StudySpec
from resprout.study.spec_resources import ResourcesSpec

ENGINES = ("local", "ray")
MOST_WORKERS = 4096


@dataclass(frozen=True)
class EngineOptions:
    """Checked options of an engine.

    Attributes:
        name: `local` (this process, or worker processes of this machine) or `ray`.
        workers: points worked at a time; default one, with Ray as many as there is room for.
        address: of a Ray cluster that runs already (`HOST:PORT`, or `auto`); default one that is
            started here and ends with the run.
        cpus: CPU threads of a point; default as the study says, else as torch has them here.
        gpus: of a point, under Ray.
        memory_gb: of a point, under Ray, in 10^9 bytes.
    """

    name: str = "local"
    workers: int | None = None
    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            hint = did_you_mean(self.name, ENGINES)
            raise ValueError(f"engine: got {self.name!r}, allowed are {', '.join(ENGINES)}{hint}")
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"workers: got {self.workers}, allowed are 1 to {MOST_WORKERS}")
        if self.name != "ray":
            for field in ("address", "gpus", "memory_gb"):
                if getattr(self, field) is not None:
                    raise ValueError(
                        f"{field}: got {getattr(self, field)!r}, allowed only with the engine ray"
                    )
        if self.address is not None and "://" in self.address:
            raise ValueError(
                f"address: got {self.address!r}, allowed is HOST:PORT of a cluster's head, or "
                "auto, on a machine that belongs to the cluster"
            )
        _checked(cpus=self.cpus, gpus=self.gpus, memory_gb=self.memory_gb)

    def check_cluster(self) -> None:
        """See at once whether anything listens where the cluster is said to be.

        Raises:
            ValueError: nothing does.
        """
        if self.cluster is not None:
            check_listens(self.cluster)

    @property
    def cluster(self) -> str | None:
        """Address of the Ray cluster to join; None where there is none to join."""
        if self.name != "ray":
            return None
        # Ray's own variable, which `ray job submit` sets for what it runs.
        found = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return None if found == "local" else found

    def resources(self, spec: StudySpec) -> ResourcesSpec:
        """What a point is given: what the command says, else what the study says."""
        said = spec.resources or ResourcesSpec()
        fields = ("cpus", "gpus", "memory_gb")
        own = {name: getattr(self, name) for name in fields if getattr(self, name) is not None}
        return _checked(**said.model_dump() | own)


def _checked(**fields: float | None) -> ResourcesSpec:
    try:
        return ResourcesSpec.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name, got = problem["loc"][0], problem["input"]
        wanted = problem["msg"].removeprefix("Input should be ")
        if "error" in problem.get("ctx", {}):
            raise ValueError(str(problem["ctx"]["error"])) from error
        raise ValueError(f"{name}: got {got}, allowed is {wanted}") from error
